"""``llara search``: the passages nearest to a query."""

from __future__ import annotations

import json
import logging
import unicodedata
from pathlib import Path
from typing import Annotated

import typer

from llara_core.cli.models import local
from llara_core.cli.options import Config, Data, Device, Overrides, read_data, read_settings
from llara_core.cli.systems import BM25, Model, check_model, open_system
from llara_core.data.collection import Collection
from llara_core.errors import ConfigError

logger = logging.getLogger(__name__)

_SNIPPET = 100  # characters of a passage shown in a line of results
_HASH = "hash"  # of the passage as it was indexed


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
    index: Annotated[
        Path | None,
        typer.Option(
            help="Index folder of this model: nothing is encoded but the query; texts come from --data."
        ),
    ] = None,
) -> None:
    """Search a corpus for the passages nearest to a query."""
    settings = read_settings(config, override)
    if not query.strip():
        raise ConfigError("the query is empty; say what to look for")
    model = local(model)
    if index is not None:
        results = _search_index(index, model, query, top, device)
        if data is not None:
            _add_texts(results, read_data(data, settings, "unused"))
    else:
        check_model(model)
        collection = read_data(data, settings, "unused")
        scores, rows = open_system(model, collection, settings, device, cache).search([query], top)
        titles, texts = collection.corpus["title"], collection.corpus["text"]
        results = []
        for score, row in zip(scores[0].tolist(), rows[0].tolist(), strict=True):
            if row >= 0:  # BM25 pads the places for which no passage shares a word with the query
                found = {
                    "id": collection.corpus_ids[row],
                    "title": titles[row].as_py(),
                    "text": texts[row].as_py(),
                }
                results.append({"rank": len(results) + 1, "score": score, **found})
    if as_json:
        typer.echo(json.dumps([_public(one) for one in results], ensure_ascii=False, indent=1))
    else:
        _show(results)


def _search_index(
    folder: Path, model: str, query: str, top: int, device: str | None
) -> list[dict[str, object]]:
    """Results without texts; refuses another model than the index was built with before it is loaded."""
    from llara_core.model.bundle import read_bundle
    from llara_core.model.retriever import Retriever
    from llara_core.retrieval.index import Index

    if model == BM25:
        raise ConfigError("an index holds the vectors of a model; give --model the bundle it was built with")
    index = Index.open(folder)
    index.check_model(read_bundle(Path(model).expanduser()).fingerprint)
    retriever = Retriever.from_pretrained(model, device)
    scores, rows = index.search(retriever.encode_queries([query]), top, retriever)
    return [
        {
            "rank": rank,
            "score": score,
            "id": index.id_of(row),
            "title": "",
            "text": "",
            _HASH: index.hash_of(row),
        }
        for rank, (score, row) in enumerate(zip(scores[0].tolist(), rows[0].tolist(), strict=True), start=1)
    ]


def _add_texts(results: list[dict[str, object]], collection: Collection) -> None:
    """Title and text of each result; says where the collection is no longer what was indexed."""
    from llara_core.retrieval.hashes import passage_hashes

    places = {document: row for row, document in enumerate(collection.corpus_ids)}
    titles, texts = collection.corpus["title"], collection.corpus["text"]
    differing = 0
    for one in results:
        row = places.get(str(one["id"]))
        if row is not None:
            one["title"], one["text"] = titles[row].as_py(), texts[row].as_py()
        differing += row is None or passage_hashes([collection.passages[row]]).tobytes() != one[_HASH]
    if differing:
        logger.warning(
            "%d of the %d passages found are not in %s as they were indexed; run `llara index refresh`",
            differing, len(results), collection.name,
        )  # fmt: skip


def _public(result: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in result.items() if name != _HASH}


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
