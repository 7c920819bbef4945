"""``llara compare``: which of two or more systems is better, and is it more than luck?"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llara_core.cli.options import Config, Overrides, read_data, read_settings
from llara_core.errors import DataError
from llara_core.files import check_writable, write_json

if TYPE_CHECKING:
    from llara_core.data.collection import Collection
    from llara_core.evaluation.results import SystemResult

logger = logging.getLogger(__name__)

_RESULT = "result.json"  # what marks a folder of SystemResult.save
_DEEPEST = 4  # folders below the one named: results/<collection>/<system>, evaluation/systems/<name>
_FIRST = "bm25"  # of the systems of one folder: the baseline that most comparisons want

Results = Annotated[
    list[str],
    typer.Argument(
        metavar="[NAME=]FOLDER...",
        help="Saved results (`llara evaluate --results`), one or folders of them; NAME renames a system.",
    ),
]


def compare(  # noqa: PLR0913, PLR0917 - one argument per option
    results: Results,
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FOLDER|ZIP|ID|pycode",
            help="Collection of the results, for texts, lengths and types of queries; may be repeated.",
        ),
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(help="System that the others are compared with; default: the first.")
    ] = None,
    metric: Annotated[str, typer.Option(help="Metric to compare by.")] = "ndcg_at_10",
    seed: Annotated[int, typer.Option(min=0, help="Seed of bootstrap and randomisation tests.")] = 0,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="HTML page to write.")] = None,
    png: Annotated[Path | None, typer.Option(help="Folder for the plots as PNG.")] = None,
    json: Annotated[Path | None, typer.Option(help="JSON file for all numbers.")] = None,
    config: Config = None,
    override: Overrides = None,
) -> None:
    """Compare saved results: differences with intervals, p-values after Holm, and a page that shows why."""
    from llara_core.evaluation.side_by_side import compare_systems
    from llara_core.evaluation.side_by_side_page import write_figures, write_page
    from llara_core.evaluation.side_by_side_text import terminal

    for path in (output, png, json):
        if path is not None:
            check_writable(path)
    found = find_results(results)
    collections = _collections(data or [], found, config, override)
    record = compare_systems(found, collections, metric=metric, baseline=baseline, seed=seed)
    if json is not None:
        write_json(json, record)
    for line in terminal(record):
        typer.echo(line)
    if output is not None:
        typer.echo(f"page: {write_page(record, output)}")
    if png is not None:  # last: it needs a browser, and whoever has none should get the rest
        typer.echo(f"{len(write_figures(record, png))} figures in {png}")


def find_results(words: list[str]) -> dict[str, list[SystemResult]]:
    """The saved results below the folders named, by collection, in the order named.

    Within one folder ``bm25`` comes first and the other systems by name, so that without further words
    the baseline is BM25.

    Args:
        words: ``FOLDER`` or ``NAME=FOLDER``; the name replaces that of the one system found there.

    Raises:
        DataError: a folder is missing or holds no saved result, or a name would stand for two systems.
    """
    from dataclasses import replace

    from llara_core.evaluation.results import SystemResult

    found: dict[str, list[SystemResult]] = {}
    for word in words:
        name, folder = _split(word)
        loaded = [SystemResult.load(path) for path in _folders(folder)]
        loaded.sort(key=lambda one: (one.collection, one.name != _FIRST, one.name))
        if name is not None:
            systems = sorted({one.name for one in loaded})
            if len(systems) > 1:
                raise DataError(
                    f"{name!r} cannot name {len(systems)} systems ({', '.join(systems)}); name the folder of "
                    "one of them",
                    file=folder,
                )
            loaded = [replace(one, name=name) for one in loaded]
        for one in loaded:
            found.setdefault(one.collection, []).append(one)
    return found


def _split(word: str) -> tuple[str | None, Path]:
    """Name and folder; a folder whose own name has an equals sign is taken as it is."""
    name, equals, folder = word.partition("=")
    if not equals or not name or Path(word).expanduser().exists():
        return None, Path(word).expanduser()
    return name, Path(folder).expanduser()


def _folders(folder: Path) -> list[Path]:
    """The folders of saved results at or below a folder."""
    if not folder.is_dir():
        raise DataError("no such folder; `llara evaluate --results` writes one", file=folder)
    if (folder / _RESULT).is_file():
        return [folder]
    depths = ["/".join(["*"] * depth) for depth in range(1, _DEEPEST + 1)]
    below = [path.parent for depth in depths for path in sorted(folder.glob(f"{depth}/{_RESULT}"))]
    if not below:
        raise DataError(
            f"no saved result ({_RESULT}) here or up to {_DEEPEST} folders below; "
            "`llara evaluate --results` writes one",
            file=folder,
        )
    return below


def _collections(
    data: list[str],
    found: dict[str, list[SystemResult]],
    config: Path | None,
    override: list[str] | None,
) -> dict[str, Collection]:
    """The collections named by ``--data``, under the names that the results know them by."""
    settings = read_settings(config, override)
    opened: dict[str, Collection] = {}
    for word in data:
        collection = read_data(word, settings)
        name = collection.name
        if name not in found and len(data) == len(found) == 1:
            name = next(iter(found))  # the folder was renamed or moved; its queries will tell
        if name not in found:
            raise DataError(
                f"--data {word}: no result is on the collection {name!r}; the results are on "
                f"{', '.join(found)}"
            )
        opened[name] = collection
    missing = [name for name in found if name not in opened]
    if missing:
        logger.info("without --data for %s its queries are shown by their ids only", ", ".join(missing))
    return opened
