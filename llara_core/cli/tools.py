"""``llara doctor`` and ``llara collection``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llara_core.cli.options import Config, Overrides, read_data, read_settings
from llara_core.data.formats import write_beir
from llara_core.files import check_writable


def doctor() -> None:
    """Check this machine, and say what to do about each problem; exits 1 if there is one."""
    from llara_core.doctor import examine

    checks = examine()
    width = max(len(check.name) for check in checks)
    for check in checks:
        typer.echo(f"{'ok     ' if check.ok else 'PROBLEM'}  {check.name:<{width}}  {check.found}")
        if not check.ok:
            typer.echo(f"{'':7}  {'':<{width}}  → {check.advice}")
    failed = sum(not check.ok for check in checks)
    if failed:
        typer.echo(f"{failed} {'problem' if failed == 1 else 'problems'} found", err=True)
        raise typer.Exit(1)
    typer.echo("all is well; `llara selftest` checks that this machine also computes what it should")


def write_pycode(
    output: Annotated[Path, typer.Argument(help="Folder for corpus.jsonl, queries.jsonl and qrels/.")],
    config: Config = None,
    override: Overrides = None,
) -> None:
    """Write the collection made of installed Python code."""
    settings = read_settings(config, override)
    check_writable(output)
    collection = read_data("pycode", settings)
    write_beir(collection, output)
    typer.echo(f"{collection.corpus.num_rows} documents, {collection.queries.num_rows} queries in {output}")
