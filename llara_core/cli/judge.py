"""Using a model: ``llara evaluate``, ``encode`` and ``search``, for bundles and for ``bm25``."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llara_core.cli.options import Config, Data, Device, Overrides, read_data, read_settings
from llara_core.config import TrainingSettings
from llara_core.data.collection import Collection
from llara_core.errors import ConfigError
from llara_core.files import check_writable, new_folder, write_json

if TYPE_CHECKING:
    from llara_core.evaluation.beir import System

Model = Annotated[str, typer.Option(metavar="FOLDER|bm25", help="Bundle folder, or the lexical baseline.")]
_SNIPPET = 100  # characters of a passage shown in a line of results


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
    _check_model(model)
    collection = read_data(data, settings)
    chosen = split or settings.evaluate.split
    collection.split_queries(chosen)  # before the corpus is encoded: a missing split should fail at once
    system = _system(model, collection, settings, device)
    scores = evaluate_system(collection, chosen, system, settings.evaluate.depth).to_json()
    if output is not None:
        write_json(output, scores)
    cells = [
        f"{name} {value:.4f}" if isinstance(value, float) else f"{name} {value}"
        for name, value in scores.items()
    ]
    typer.echo(f"{collection.name}/{chosen} {model}: {', '.join(cells)}")


def encode(
    model: Annotated[Path, typer.Option(help="Bundle folder.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for vectors.npy, ids.json and vectors.json.")
    ],
    data: Data = None,
    config: Config = None,
    override: Overrides = None,
    device: Device = None,
) -> None:
    """Encode a corpus: float32 vectors [N, D], the ids of their rows, and what they came from."""
    import numpy as np

    from llara_core.model.bundle import read_bundle
    from llara_core.model.retriever import Retriever

    settings = read_settings(config, override)
    check_writable(output)
    read_bundle(model)
    collection = read_data(data, settings, "unused")
    retriever = Retriever.from_pretrained(model, device)
    vectors = retriever.encode_passages(collection.passages, progress=True)
    facts = {
        "model": str(model),
        "fingerprint": retriever.fingerprint,
        "dimension": int(vectors.shape[1]),
        "documents": int(vectors.shape[0]),
        "collection": collection.name,
    }
    with new_folder(output, replace=("vectors.npy",)) as folder:
        np.save(folder / "vectors.npy", vectors.astype(np.float32, copy=False), allow_pickle=False)
        write_json(folder / "ids.json", collection.corpus_ids)
        write_json(folder / "vectors.json", facts)
    typer.echo(f"{vectors.shape[0]} vectors of {vectors.shape[1]} dimensions in {output}")


def search(  # noqa: PLR0913, PLR0917 - the options of the command
    query: Annotated[str, typer.Argument(help="What to look for.")],
    model: Model,
    data: Data = None,
    top: Annotated[int, typer.Option(min=1, help="How many passages to show.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    config: Config = None,
    override: Overrides = None,
    device: Device = None,
    cache: Annotated[
        Path | None,
        typer.Option(help="Folder that keeps the vectors of the corpus, so that the next search is quick."),
    ] = None,
) -> None:
    """Search a corpus for the passages nearest to a query."""
    settings = read_settings(config, override)
    if not query.strip():
        raise ConfigError("the query is empty; say what to look for")
    _check_model(model)
    collection = read_data(data, settings, "unused")
    scores, rows = _system(model, collection, settings, device, cache).search([query], top)
    titles, texts = collection.corpus["title"], collection.corpus["text"]
    results: list[dict[str, object]] = []
    for score, row in zip(scores[0].tolist(), rows[0].tolist(), strict=True):
        if row >= 0:  # BM25 pads the places for which no passage shares a word with the query
            passage = {
                "id": collection.corpus_ids[row],
                "title": titles[row].as_py(),
                "text": texts[row].as_py(),
            }
            results.append({"rank": len(results) + 1, "score": score, **passage})
    if as_json:
        typer.echo(json.dumps(results, ensure_ascii=False, indent=1))
    else:
        _show(results)


def _check_model(model: str) -> None:
    """Refuse a folder that is no bundle before any data is read."""
    from llara_core.model.bundle import read_bundle

    if model != "bm25":
        read_bundle(Path(model).expanduser())


def _system(
    model: str,
    collection: Collection,
    settings: TrainingSettings,
    device: str | None,
    cache: Path | None = None,
) -> System:
    from llara_core.evaluation.beir import Bm25System, DenseSystem

    if model == "bm25":
        return Bm25System(collection, settings.evaluate.bm25)
    from llara_core.model.retriever import Retriever

    return DenseSystem(model, Retriever.from_pretrained(model, device), collection, cache)


def _show(results: list[dict[str, object]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not results:
        typer.echo("nothing found: no passage shares a word with the query", err=True)
        return
    console = Console()
    lines = [
        (str(one["rank"]), f"{one['score']:.4f}", _plain(str(one["id"])), _snippet(one)) for one in results
    ]
    if not console.is_terminal:
        for line in lines:
            typer.echo("\t".join(line))
        return
    table = Table(box=None, pad_edge=False)
    for name in ("rank", "score"):
        table.add_column(name, justify="right")
    table.add_column("id", overflow="fold", max_width=40)
    table.add_column("passage", overflow="ellipsis")
    for line in lines:
        table.add_row(*map(Text, line))  # Text, because a passage may hold what rich takes for markup
    console.print(table)


def _snippet(result: dict[str, object]) -> str:
    title, text = _plain(str(result["title"] or "")), _plain(str(result["text"] or ""))
    whole = f"{title} | {text}" if title and text else title or text
    return whole if len(whole) <= _SNIPPET else whole[: _SNIPPET - 1].rstrip() + "…"


def _plain(text: str) -> str:
    """On one line, and without control characters: a corpus must not steer the user's terminal."""
    visible = (" " if unicodedata.category(char) == "Cc" else char for char in text[: 20 * _SNIPPET])
    return " ".join("".join(visible).split())
