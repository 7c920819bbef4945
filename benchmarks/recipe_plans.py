"""What every recipe needs on the devices that its head names, as `llara plan` says it.

    .venv/bin/python benchmarks/recipe_plans.py

Writes docs/results/recipes.md. Nothing is trained or downloaded.
"""

from __future__ import annotations

import argparse
import logging
import re
import sys
from pathlib import Path

from llara_core.cli.options import read_values
from llara_core.training.plan import Plan, Request, parse_plan_settings, plan_run
from llara_core.training.plan_gpus import find_device
from llara_core.training.plan_report import duration, size

ROOT = Path(__file__).resolve().parents[1]
RECIPES = ROOT / "configs" / "recipes"
RESULTS = ROOT / "docs" / "results" / "recipes.md"
logger = logging.getLogger("recipe_plans")


def planned(recipe: Path, search: bool) -> Plan:
    """The plan for the devices in the recipe's head: its line `llara plan … --gpu NAME --count N`."""
    found = re.search(r"llara plan \S+ --gpu (\S+) --count (\d+)", recipe.read_text(encoding="utf-8"))
    if found is None:
        raise SystemExit(f"{recipe}: its head names no `llara plan` command")
    settings = parse_plan_settings(read_values(recipe, None), "parameters")
    return plan_run(settings, Request(find_device(found[1]), int(found[2]), search=search))


def main() -> int:
    """Plan all recipes and write the table; exits 1 if one does not fit."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--search", action="store_true", help="also look for the largest micro-batches")
    chosen = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    lines = [
        "# Recipes",
        "",
        "Written by `make bench` from `llara plan`: planned, not run. Time for texts of the longest length, "
        "at the share of the peak that [the guide](../guides/plan.md) assumes.",
        "",
        "| recipe | devices | stage | layout | memory of a device | has | time |",
        "|---|---|---|---|---:|---:|---:|",
    ]
    fits = True
    for recipe in sorted(RECIPES.glob("*.yaml")):
        plan = planned(recipe, chosen.search)
        fits = fits and plan.fits
        for stage in plan.stages:
            lines.append(
                f"| [{recipe.stem}](../../configs/recipes/{recipe.name}) "
                f"| {plan.count} x {plan.device.title} "
                f"| {stage.name} | {stage.placement.layout} | {size(stage.placement.total)} "
                f"| {size(stage.placement.usable)} | {duration(stage.seconds)} |"
            )
            logger.info(lines[-1])
    RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")
    logger.info("wrote %s", RESULTS)
    return int(not fits)


if __name__ == "__main__":
    sys.exit(main())
