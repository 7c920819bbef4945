"""``llara doctor`` and ``llara collection``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llara_core.cli.options import Config, Overrides, read_data, read_settings
from llara_core.data.formats import write_beir
from llara_core.errors import ConfigError
from llara_core.files import check_writable


def doctor(
    stack: Annotated[
        str | None, typer.Option("--stack", "-s", help="Check a ZenML stack on Kubernetes instead.")
    ] = None,
    config: Annotated[
        list[Path] | None,
        typer.Option("--config", "-c", help="With --stack: the run configurations that are to run there."),
    ] = None,
) -> None:
    """Check this machine, or a cluster, and say what to do about each problem; exits 1 if there is one."""
    from llara_core.doctor import examine, lines, verdict

    if stack is not None:
        from llara_core.cli.project import run_module

        files = [word for path in config or [] for word in ("--config", str(path.expanduser().absolute()))]
        raise typer.Exit(run_module("pipelines.kubernetes_doctor", ["--stack", stack, *files]))
    if config:
        raise ConfigError("--config: only with --stack; `llara plan` says what a configuration needs")
    checks = examine()
    for line in lines(checks):
        typer.echo(line)
    if failed := verdict(checks):
        typer.echo(failed, err=True)
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
