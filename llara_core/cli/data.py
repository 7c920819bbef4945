"""``llara data``: take data in, repair what was put aside, and say what changed between two versions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from llara_core.cli.options import Config, Overrides, read_settings
from llara_core.config import CollectionSettings
from llara_core.data.raw import Source
from llara_core.errors import ConfigError
from llara_core.files import check_replaceable, check_writable, write_json

data_app = typer.Typer(help="Take data in, check it, repair it and compare versions.", rich_markup_mode=None)

PLACE = "FOLDER|FILE|ZIP|URL|ID|pycode"
Place = Annotated[
    str, typer.Argument(metavar=PLACE, help="Where the data lie; `llara data formats` says more.")
]
Name = Annotated[str | None, typer.Option(help="Name of the collection; default: the place's own.")]
FormatName = Annotated[
    str | None,
    typer.Option("--format", help="A format of `llara data formats`; default: told from the files."),
]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--column", metavar="OURS=THEIRS", help="Which column is meant, e.g. text=body; repeatable."
    ),
]
Revision = Annotated[str | None, typer.Option(help="Commit of a Hugging Face data set.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the record as JSON.")]


def chosen(
    place: str,
    config: Path | None,
    override: list[str] | None,
    **options: Any,
) -> CollectionSettings:
    """The collection's settings with what the command line says put over them.

    Args:
        place: the source.
        config: a run configuration whose ``collection`` holds the rest, or None.
        override: ``--set`` values.
        **options: ``name``, ``format``, ``columns`` (words ``OURS=THEIRS``) and ``revision``; None where
            they were not given.

    Raises:
        ConfigError: a setting or a column is unusable.
    """
    base = read_settings(config, override).collection
    changes = {name: value for name, value in options.items() if value is not None}
    if "columns" in changes:
        changes["columns"] = {**base.columns, **_columns(changes["columns"])}
    if place != base.source:
        changes = {"name": None, **changes}
    values = base.model_dump() | {"source": place} | changes
    return CollectionSettings.parse(values, "collection")


@data_app.command("ingest")
def ingest(  # noqa: PLR0913, PLR0917 - the options of the command
    place: Place,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the collection.")],
    name: Name = None,
    format_name: FormatName = None,
    column: Columns = None,
    revision: Revision = None,
    questions: Annotated[
        str | None,
        typer.Option(help="Table of questions with the id or the text of their answer; PLACE has documents."),
    ] = None,
    titles: Annotated[
        bool, typer.Option("--titles-as-queries", help="No questions at hand: titles ask for their texts.")
    ] = False,
    repaired: Annotated[
        Path | None, typer.Option(help="Edited file of `llara data repair`; its rows stand for the source's.")
    ] = None,
    hold_out: Annotated[
        float | None,
        typer.Option(help="Make a test split of this share of the training queries, e.g. 0.2."),
    ] = None,
    report: Annotated[Path | None, typer.Option(help="HTML page about the data.")] = None,
    as_json: AsJson = False,
    config: Config = None,
    override: Overrides = None,
) -> None:
    """Read data of any format into a folder that every command takes.

    Every row is accepted, or put aside with file, row, rule and reason in OUTPUT/quarantine. Exits 1
    where more rows break a rule than collection.ingest allows.
    """
    from llara_core.cli.data_text import ingested_text, next_steps
    from llara_core.data.ingest import IngestStopped
    from llara_core.data.intake import take_in
    from llara_core.data.splits import hold_out_queries

    settings = chosen(
        place, config, override, name=name, format=format_name, columns=column, revision=revision
    )
    if repaired is not None:
        told = settings.ingest.model_copy(update={"repaired": str(repaired)})
        settings = settings.model_copy(update={"ingest": told})
    check_writable(output)
    check_replaceable(output, ("collection.json", "quarantine"))
    if report is not None:
        check_writable(report)
    change = None if hold_out is None else lambda collection: hold_out_queries(collection, hold_out)
    try:
        taken = take_in(settings, output, source=_own(settings, questions, titles), change=change)
    except IngestStopped as error:
        typer.echo(f"llara: {error}", err=True)
        raise typer.Exit(1) from None
    if report is not None:
        from llara_core.cli.data_checks import write_report

        write_report(output, report, settings)
    typer.echo(_json(taken.record) if as_json else ingested_text(taken, output) + next_steps(taken, output))


@data_app.command("repair")
def repair(
    folder: Annotated[Path, typer.Argument(help="Folder of `llara data ingest`, or its quarantine.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="JSON lines to edit.")],
    flagged: Annotated[
        bool, typer.Option("--flagged", help="Write rows too that were taken in with a remark.")
    ] = False,
) -> None:
    """Write the rows that were put aside to a file that a person can edit.

    Mend `record` (or `raw`, where the row could not be parsed), or write "drop": true. Then feed the file
    back: llara data ingest PLACE -o FOLDER --repaired FILE
    """
    from llara_core.data.quarantine import write_repair

    check_writable(output)
    count = write_repair(folder, output, flagged=flagged)
    rows = "row" if count == 1 else "rows"
    typer.echo(f"{count} {rows} in {output}; edit them, then: llara data ingest … --repaired {output}")


@data_app.command("diff")
def diff(
    before: Annotated[str, typer.Argument(metavar=PLACE, help="The version before.")],
    after: Annotated[str, typer.Argument(metavar=PLACE, help="The version now.")],
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit 1 where they differ.")] = False,
    as_json: AsJson = False,
    config: Config = None,
    override: Overrides = None,
) -> None:
    """Say what changed between two versions of a collection."""
    from llara_core.data.diff import diff as compare
    from llara_core.data.diff_text import diff_text
    from llara_core.data.formats import load_collection

    first, second = (load_collection(chosen(one, config, override)) for one in (before, after))
    found = compare(first, second)
    typer.echo(_json(found) if as_json else diff_text(found))
    if exit_code and first.content_hash != second.content_hash:
        raise typer.Exit(1)


@data_app.command("formats")
def formats(as_json: AsJson = False) -> None:
    """List the formats that are read, and how each is recognised."""
    from llara_core.data.formats import FORMATS

    fields = ("files", "row", "recognised", "becomes")
    record = {name: {field: getattr(one, field) for field in fields} for name, one in FORMATS.items()}
    if as_json:
        typer.echo(_json(record))
        return
    for name, one in record.items():
        typer.echo(f"{name}\n" + "\n".join(f"  {field + ':':<12} {text}" for field, text in one.items()))
    typer.echo(
        "Each plain, .gz, .zst or .xz; in a folder or a zip; here or by a URL (s3://, gs://, hdfs://, https://)."
    )


def write_record(record: Mapping[str, Any], output: Path | None, as_json: bool, text: str) -> None:
    """Print a record as text or JSON, and keep it as a file where one is named."""
    if output is not None:
        write_json(output, record)
    typer.echo(_json(record) if as_json else text)


def _own(settings: CollectionSettings, questions: str | None, titles: bool) -> Source | None:
    """The source of tables that are no collection yet; None where the settings say all."""
    from llara_core.data.formats import open_source
    from llara_core.data.own_pairs import with_questions, with_titles

    if titles and questions is not None:
        raise ConfigError("--questions and --titles-as-queries are both given; titles stand in for questions")
    if titles:
        return with_titles(str(settings.place), settings.columns, settings.name)
    if questions is None:
        return None
    return with_questions(open_source(settings, corpus_only=True), questions, settings.columns)


def _columns(words: list[str]) -> dict[str, str]:
    found = {}
    for word in words:
        ours, equals, theirs = word.partition("=")
        if not (equals and ours.strip() and theirs.strip()):
            raise ConfigError(f"--column {word}: expected OURS=THEIRS, e.g. text=body")
        found[ours.strip()] = theirs.strip()
    return found


def _json(record: Any) -> str:
    return json.dumps(record, ensure_ascii=False, indent=1)
