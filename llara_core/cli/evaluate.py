"""``llara evaluate``: how good is a model, or BM25, on a collection?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llara_core.cli.options import Config, Data, Device, Overrides, read_data, read_settings
from llara_core.cli.systems import Model, check_model, open_system
from llara_core.files import check_writable, write_json


def evaluate(
    model: Model,
    data: Data = None,
    split: Annotated[
        str | None, typer.Option(help="Split that is judged; default: the settings', test.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="JSON file for the scores.")] = None,
    config: Config = None,
    override: Overrides = None,
    device: Device = None,
) -> None:
    """Score a model on a split: nDCG@10, MRR@10, recall@100 and MAP@100."""
    from llara_core.evaluation.beir import evaluate_system

    settings = read_settings(config, override)
    if output is not None:
        check_writable(output)
    check_model(model)
    collection = read_data(data, settings)
    chosen = split or settings.evaluate.split
    collection.split_queries(chosen)  # before the corpus is encoded: a missing split should fail at once
    system = open_system(model, collection, settings, device)
    scores = evaluate_system(collection, chosen, system, settings.evaluate.depth).to_json()
    if output is not None:
        write_json(output, scores)
    cells = [
        f"{name} {value:.4f}" if isinstance(value, float) else f"{name} {value}"
        for name, value in scores.items()
    ]
    typer.echo(f"{collection.name}/{chosen} {model}: {', '.join(cells)}")
