"""``llara data duplicates``, ``leaks`` and ``report``: look at data before anything is trained on them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from llara_core.cli.data import (
    AsJson,
    Columns,
    FormatName,
    Name,
    Place,
    Revision,
    chosen,
    data_app,
    write_record,
)
from llara_core.cli.options import Config, Overrides
from llara_core.config import CollectionSettings
from llara_core.data.collection import Collection
from llara_core.data.formats import load_collection
from llara_core.errors import DataError
from llara_core.files import check_replaceable, check_writable

__all__ = ["data_app", "duplicates", "leaks", "report", "write_report"]

Record = Annotated[Path | None, typer.Option("--record", help="JSON file for the report.")]
Cleaned = Annotated[
    Path | None, typer.Option("--output", "-o", help="Folder for the collection without what is left out.")
]


@data_app.command("duplicates")
def duplicates(  # noqa: PLR0913, PLR0917 - the options of the command
    place: Place,
    policy: Annotated[
        Literal["mark", "keep_first", "keep_longest"] | None,
        typer.Option(help="Which document of a cluster stays; default: the settings', mark: all."),
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Similarity (Jaccard of word n-grams) of near-duplicates.")
    ] = None,
    stop_above: Annotated[
        float | None, typer.Option(help="Exit 1 where a greater share of the documents repeats another.")
    ] = None,
    output: Cleaned = None,
    record: Record = None,
    as_json: AsJson = False,
    format_name: FormatName = None,
    column: Columns = None,
    config: Config = None,
    override: Overrides = None,
) -> None:
    """Find documents that say the same, exactly or nearly."""
    from llara_core.cli.data_text import record_text
    from llara_core.data.duplicates import deduplicate, find_duplicates

    told = chosen(place, config, override, format=format_name, columns=column)
    _check_targets(output, record)
    changes = {"policy": policy, "threshold": threshold}
    given = {key: one for key, one in changes.items() if one is not None}
    settings = type(told.duplicates).parse(told.duplicates.model_dump() | given, "collection.duplicates")
    collection = load_collection(told)
    found = find_duplicates(collection.passages, settings, collection.corpus_ids)
    report = dict(found.report)
    if output is not None:
        cleaned, counts = deduplicate(collection, found)
        report["left_out"] = counts
        _save(cleaned, output)
    write_record(report, record, as_json, record_text(report))
    if stop_above is not None and report["repeats"] > stop_above * max(1, report["passages"]):
        raise typer.Exit(1)


@data_app.command("leaks")
def leaks(  # noqa: PLR0913, PLR0917 - the options of the command
    place: Place,
    split: Annotated[str, typer.Option(help="The split that is judged.")] = "test",
    train_split: Annotated[str, typer.Option(help="The split that is trained on.")] = "train",
    text: Annotated[
        str | None,
        typer.Option(help="File or folder of adaptation text; default: the collection's own corpus."),
    ] = None,
    action: Annotated[
        Literal["mark", "drop", "stop"] | None,
        typer.Option(help="stop: exit 1 where something leaks; drop, with -o: leave it out of training."),
    ] = None,
    output: Cleaned = None,
    record: Record = None,
    as_json: AsJson = False,
    format_name: FormatName = None,
    column: Columns = None,
    config: Config = None,
    override: Overrides = None,
) -> None:
    """Find what training shows of the evaluation: queries, their passages, text in the adaptation."""
    from llara_core.cli.data_text import record_text
    from llara_core.data.leaks import apply, find_leaks
    from llara_core.data.text_folder import read_text

    told = chosen(place, config, override, format=format_name, columns=column)
    _check_targets(output, record)
    given = {} if action is None else {"action": action}
    if output is not None and action is None:
        given = {"action": "drop"}
    settings = told.leaks.model_copy(update=given)
    collection = load_collection(told)
    adaptation = collection.passages if text is None else read_text(Path(text)).passages
    found = find_leaks(
        collection, split=split, train_split=train_split, adaptation=adaptation, settings=settings
    )
    write_record(found.report, record, as_json, record_text(found.report))
    if output is not None:
        _save(apply(collection, found), output)
    try:
        found.raise_stop()
    except DataError as error:
        typer.echo(f"llara: {error}", err=True)
        raise typer.Exit(1) from None


@data_app.command("report")
def report(  # noqa: PLR0913, PLR0917 - the options of the command
    place: Place,
    output: Annotated[Path, typer.Option("--output", "-o", help="HTML page.")],
    previous: Annotated[
        str | None, typer.Option(help="The version before, to say what has changed since.")
    ] = None,
    name: Name = None,
    format_name: FormatName = None,
    column: Columns = None,
    revision: Revision = None,
    config: Config = None,
    override: Overrides = None,
) -> None:
    """Write a page about the data: counts, lengths, languages, repeats, leaks, what was put aside."""
    check_writable(output)
    settings = chosen(
        place, config, override, name=name, format=format_name, columns=column, revision=revision
    )
    before = None if previous is None else load_collection(chosen(previous, config, override))
    typer.echo(f"the page: {write_report(Path(settings.place or ''), output, settings, before)}")


def write_report(
    folder: Path, page: Path, settings: CollectionSettings, before: Collection | None = None
) -> Path:
    """The page about a collection, and about what was put aside where the folder was ingested.

    Args:
        folder: an ingested folder, or any other place that the settings name.
        page: to write.
        settings: of the collection.
        before: the version before, or None.
    """
    from llara_core.data.data_facts import data_facts
    from llara_core.evaluation.data_page import write_data_page

    ingested = (folder / "collection.json").is_file()
    collection = Collection.load(folder) if ingested else load_collection(settings)
    return write_data_page(data_facts(collection, settings, folder if ingested else None, before), page)


def _save(collection: Collection, output: Path) -> None:
    from llara_core.files import new_folder

    with new_folder(output, replace=("collection.json",)) as temporary:
        collection.save(temporary)


def _check_targets(output: Path | None, record: Path | None) -> None:
    for target in (output, record):
        if target is not None:
            check_writable(target)
    if output is not None:
        check_replaceable(output, ("collection.json",))
