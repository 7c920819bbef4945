"""Does adaptation pay? {none, EBAE, EBAR, both} × text × seeds, all with the same fine-tuning.

    .venv/bin/python benchmarks/adaptation_gain.py --data path/to/scifact --wikipedia articles.jsonl.gz

Finished cells are kept below .local/benchmarks/adaptation_gain, so an interrupted run goes on where it
was. Writes docs/results/adaptation_gain.md and .json; a part of it (--scale, fewer seeds, arms or
collections) is written beside the cells instead, unless --output says otherwise. With --size 50m (for a
GPU) the base is a decoder of 57 million parameters, pretrained as a language model on the Wikipedia
articles; its page is adaptation_gain_50m.md.
"""

from __future__ import annotations

import argparse
import copy
import logging
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gain_cells import ARMS, Study, Workshop, finished, run_cell, taken, write_facts
from gain_page import LARGE_PAGE, write_results

from llara_core.data.text_folder import text_files
from llara_core.errors import DataError, LlaraError
from llara_core.settings import load_yaml

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = REPOSITORY.parent / "shared" / "data"
CELLS = REPOSITORY / ".local" / "benchmarks" / "adaptation_gain"
RESULTS = REPOSITORY / "docs" / "results"
CONFIGS = {"pycode": "demo.yaml", "scifact": "scifact.yaml"}
# The recipes of `make run` and `make scifact`, with a budget that 30 cells can be paid from.
BUDGET: dict[str, dict[str, Any]] = {
    "pycode": {
        "collection": {"pycode": {"max_functions": 10_000, "test_queries": 1_000, "dev_queries": 0}},
        "adapt": {"steps": 80, "batch_size": 128},
        "finetune": {"steps": 50, "batch_size": 128, "hard_negatives": 0},
    },
    "scifact": {
        "adapt": {"steps": 100, "batch_size": 128},
        "finetune": {"steps": 40, "batch_size": 24, "span_pairs": 40, "hard_negatives": 0},
    },
}
LARGE = {  # 57M parameters with a vocabulary of 32,000; the stages keep their learning rates' order
    "model": {
        "from_scratch": {
            "vocabulary_size": 32_000, "hidden_size": 512, "intermediate_size": 1_536, "layers": 12,
            "heads": 8, "key_value_heads": 8,
        }
    },
    "adapt": {"steps": 400, "batch_size": 256, "learning_rate": 5e-4, "mixed_precision": "bf16"},
    "finetune": {"steps": 200, "learning_rate": 2e-4, "mixed_precision": "bf16"},
}  # fmt: skip
PRETRAINING = {
    "steps": 4_000, "batch_size": 128, "learning_rate": 1e-3, "adam_beta2": 0.95, "schedule": "cosine",
    "text_length": 256, "ebae_weight": 0.0, "ebar_weight": 0.0, "language_model_weight": 1.0,
    "mixed_precision": "bf16", "log_every": 50,
}  # fmt: skip
FIRST = ("none", "ebae", "ebar", "both")
USUAL = (*FIRST, "wikipedia")
logger = logging.getLogger("adaptation_gain")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is missing and write the table; exits 0, 1 when a cell failed, 2 on unusable input."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    chosen = _options().parse_args(given)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logger.setLevel(logging.INFO)
    try:
        if not chosen.table_only:
            text_files(chosen.wikipedia)  # a wrong path should be told before an hour of work
        studies = [_study(name, chosen) for name in chosen.collections]
        if chosen.parallel and len(studies) > 1 and not chosen.table_only:
            _run_in_parallel(given, chosen.collections)
        elif not chosen.table_only:
            for study in studies:
                _run(study, chosen.arms, chosen.seeds)
        if not chosen.cells_only:
            name = "adaptation_gain.md" if chosen.size == "tiny" else LARGE_PAGE
            output = chosen.output or (CELLS if _partial(chosen) else RESULTS) / name
            write_results(studies, chosen.arms, chosen.seeds, output)
            logger.info("wrote %s and %s", output, output.with_suffix(".json").name)
    except LlaraError as error:
        logger.error("adaptation_gain: %s", error)
        return error.exit_code
    return 0


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--collections", nargs="+", choices=list(BUDGET), default=list(BUDGET))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument(
        "--arms", nargs="+", choices=list(ARMS), default=list(USUAL),
        help="around (target of our recipes) and mixed (half Wikipedia) are run on request",
    )  # fmt: skip
    parser.add_argument("--scale", type=float, default=1.0, help="share of steps and functions, for a trial")
    parser.add_argument("--size", choices=["tiny", "50m"], default="tiny", help="50m: for a GPU")
    parser.add_argument("--data", type=Path, default=SHARED / "scifact", help="SciFact as a BEIR folder")
    parser.add_argument(
        "--wikipedia", type=Path, default=SHARED / "enwiki_sample" / "articles.jsonl.gz",
        help="articles: JSON lines with title and text",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, help="the Markdown file; the JSON file lies beside it")
    parser.add_argument(
        "--parallel", action="store_true", help="a process for each collection, one thread each"
    )
    parser.add_argument("--cells-only", action="store_true", help="run cells, write no table")
    parser.add_argument("--table-only", action="store_true", help="write the table from finished cells")
    return parser


def _partial(chosen: argparse.Namespace) -> bool:
    """Whether a run is no measurement to publish."""
    whole = set(chosen.collections) == set(BUDGET) and set(chosen.arms) >= set(USUAL)
    return chosen.scale != 1.0 or len(chosen.seeds) < 3 or not whole


def _study(name: str, chosen: argparse.Namespace) -> Study:
    given = load_yaml(REPOSITORY / "configs" / CONFIGS[name])["parameters"]
    values = _merged(given, BUDGET[name])
    pretraining = None
    if chosen.size == "50m":
        values = _merged(values, LARGE)
        pretraining = dict(PRETRAINING, steps=_scaled(PRETRAINING["steps"], chosen.scale))
    for stage in ("adapt", "finetune"):
        values[stage]["steps"] = _scaled(values[stage]["steps"], chosen.scale)
    if name == "pycode":
        for key in ("max_functions", "test_queries"):
            values["collection"]["pycode"][key] = max(
                50, int(values["collection"]["pycode"][key] * chosen.scale)
            )
    else:
        values["collection"]["source"] = str(chosen.data)
    CELLS.mkdir(parents=True, exist_ok=True)
    study = Study(name, values, chosen.wikipedia, CELLS, pretraining)
    _ = study.settings  # a wrong key should be told before hours of work
    return study


def _merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The values with the changes written over them, level by level."""
    result = copy.deepcopy(dict(values))
    for key, change in changes.items():
        inner = result.get(key)
        result[key] = _merged(inner or {}, change) if isinstance(change, Mapping) else change
    return result


def _scaled(steps: int, scale: float) -> int:
    return max(2, round(steps * scale))


def _run(study: Study, arms: Sequence[str], seeds: Sequence[int]) -> None:
    """Run the cells that are missing: the issue's four arms with all seeds first, then the others."""
    groups = ([arm for arm in arms if arm in FIRST], [arm for arm in arms if arm not in FIRST])
    cells = [(arm, seed) for group in groups for seed in seeds for arm in group]
    missing = [cell for cell in cells if finished(study.cell_file(*cell)) is None]
    if not missing and finished(study.facts_file()) is not None:
        logger.info("%s: all %d cells are finished", study.name, len(cells))
        return
    workshop = Workshop(study)
    try:
        facts = finished(study.facts_file()) or write_facts(workshop)
        if facts["content_hash"] != workshop.collection.content_hash:
            raise DataError(
                f"{study.name}: the text has changed since the kept cells were made (other package versions, "
                f"another folder); move {study.folder} away to begin anew",
                file=study.facts_file(),
            )
        started, done = time.monotonic(), 0
        for arm, seed in missing:
            done += 1
            with taken(study.cell_file(arm, seed)) as ours:
                if not ours or finished(study.cell_file(arm, seed)) is not None:
                    continue  # another process has it, or was faster
                record = run_cell(workshop, arm, seed)
            left = (time.monotonic() - started) / done * (len(missing) - done)
            means = {stage: sum(scores) / len(scores) for stage, scores in record["scores"].items()}
            logger.info(
                "%s %s seed %d: nDCG@10 %.4f adapted, %.4f fine-tuned; %.0f s; %d/%d cells, %.0f min left",
                study.name, arm, seed, means["zero_shot"], means["finetuned"],
                sum(record["seconds"].values()), done, len(missing), left / 60,
            )  # fmt: skip
    finally:
        workshop.close()


def _run_in_parallel(given: Sequence[str], collections: Sequence[str]) -> None:
    """One process a collection, each with one thread: two cores do twice the cells."""
    kept = [word for word in given if word != "--parallel"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, str(Path(__file__)), *kept, "--cells-only", "--collections", name],
            env=environment,
        )
        for name in collections
    ]
    try:
        codes = [process.wait() for process in processes]
    except BaseException:
        for process in processes:
            process.terminate()
        raise
    if any(codes):
        raise SystemExit(max(codes))


if __name__ == "__main__":
    sys.exit(main())
