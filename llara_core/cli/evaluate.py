"""``llara evaluate``: how good is a model, or BM25, on one collection or on a list of them?"""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llara_core.cli.models import local, name_of
from llara_core.cli.options import Config, Device, Overrides, read_settings
from llara_core.cli.systems import Model, check_model, open_system, system_fingerprint
from llara_core.config import TrainingSettings
from llara_core.errors import ConfigError
from llara_core.files import check_writable, write_json

if TYPE_CHECKING:
    from llara_core.evaluation.beir_places import Place
    from llara_core.evaluation.beir_runs import Judge

logger = logging.getLogger(__name__)


def evaluate(  # noqa: PLR0913, PLR0917 (one argument an option)
    model: Model,
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FOLDER|ZIP|ID|beir:NAME|pycode",
            help="BEIR folder or zip, Hugging Face dataset, a set of BEIR by name, or the built-in "
            "collection; may be repeated. Default: the settings'.",
        ),
    ] = None,
    sets: Annotated[
        str | None,
        typer.Option(help="Public sets of BEIR by name, with commas between, e.g. scifact,nfcorpus."),
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(help="Folder that holds the sets; default: $LLARA_BEIR, else the Hugging Face hub."),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Split that is judged; default: the set's own, or the settings', test.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="JSON file for the scores.")] = None,
    results: Annotated[
        Path | None,
        typer.Option(
            help="Folder for each set's scores per query, TREC run and MTEB JSON; what is there already, "
            "of the same model, data and protocol, is not judged again."
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            help="The system's name in tables and folders; default: its folder's, or the registry's."
        ),
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(help="Folder that keeps passages' vectors, mapped into memory when searched."),
    ] = None,
    config: Config = None,
    override: Overrides = None,
    device: Device = None,
) -> None:
    """Score a model: one collection gives one line, several give a table with published scores beside.

    Where a collection's training split gives queries away, the scores without them stand beside.
    """
    settings = read_settings(config, override)
    for target in (output, results, cache):
        if target is not None:
            check_writable(target)
    called, place = name or name_of(model), local(model)
    _check_name(called)
    check_model(place)
    judge = _judge(place, settings, device, cache)
    judge = replace(judge, name=called, results=results)
    listed = _places(data, sets, root, split, settings)
    if sets is None and len(data or []) <= 1 and len(listed) == 1:
        _one(judge, listed[0], settings, model, output)
    else:
        _many(judge, listed, settings, output)


def _one(judge: Judge, place: Place, settings: TrainingSettings, model: str, output: Path | None) -> None:
    """Judge one collection: one line, a second where training leaks, and the four means as JSON."""
    from llara_core.evaluation.beir_runs import judge_or_raise
    from llara_core.evaluation.metrics import METRICS
    from llara_core.evaluation.subsets import leak_free_cell

    if judge.results is None:
        judge = replace(judge, metrics=METRICS)
    outcome = judge_or_raise(judge, place, settings.collection)
    result = outcome.result
    if result is None:
        raise RuntimeError(f"{place.name}: judged without a result")
    scores = {metric: result.means[metric] for metric in METRICS}
    counts = {"queries": len(result.query_ids), "documents": result.documents}
    subsets = {
        name: {key: means[key] for key in ("queries", *METRICS)} for name, means in outcome.leak_free.items()
    }
    if output is not None:
        write_json(output, {**scores, **counts, **({"leak_free": subsets} if subsets else {})})
    cells = [f"{metric} {value:.4f}" for metric, value in scores.items()]
    cells += [f"{what} {count}" for what, count in counts.items()]
    typer.echo(f"{result.collection}/{place.split} {model}: {', '.join(cells)}")
    if subsets:
        main, queries = METRICS[0], counts["queries"]
        shown = [f"{name} {leak_free_cell(means, main, queries)}" for name, means in subsets.items()]
        typer.echo(f"leak-free {main}: {', '.join(shown)}")


def _many(judge: Judge, listed: list[Place], settings: TrainingSettings, output: Path | None) -> None:
    """Judge a list: the table, and its record as JSON; exit code 1 where a set failed."""
    from llara_core.evaluation.beir_runs import judge_places
    from llara_core.evaluation.beir_table import render_table, table_record

    record = table_record(judge.name, judge_places(judge, listed, settings.collection), seed=settings.seed)
    if output is not None:
        write_json(output, record)
    typer.echo(render_table(record))
    if record["failed"]:
        raise typer.Exit(1)


def _judge(model: str, settings: TrainingSettings, device: str | None, cache: Path | None) -> Judge:
    from llara_core.evaluation.beir_runs import Judge

    return Judge(
        name=model,
        fingerprint=system_fingerprint(model, settings),
        open_system=lambda collection: open_system(model, collection, settings, device, cache),
        depth=settings.evaluate.depth,
    )


def _places(
    data: list[str] | None,
    sets: str | None,
    root: Path | None,
    split: str | None,
    settings: TrainingSettings,
) -> list[Place]:
    """What the options name; without any of them, the settings' own collection under its own name."""
    from llara_core.evaluation.beir_places import places

    named = [one.strip() for one in (sets or "").split(",") if one.strip()]
    if sets is not None and not named:
        raise ConfigError("--sets is empty; name sets of BEIR with commas between, e.g. scifact,nfcorpus")
    chosen = data if data or named else [settings.collection.source]
    listed = places(chosen or [], named, root, split, settings.evaluate.split)
    own = settings.collection
    return [
        replace(place, name=own.name) if place.source == own.source and own.name else place
        for place in listed
    ]


def _check_name(name: str) -> None:
    if name in ("", ".", "..") or os.sep in name or name.startswith("-"):
        raise ConfigError(
            f"--name {name!r}: it becomes the name of a folder; give a plain word, e.g. adapted"
        )
