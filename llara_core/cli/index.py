"""``llara index``: build an index of a corpus, refresh it when the corpus changes, and look at one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from llara_core.cli.models import Bundle
from llara_core.cli.options import Config, Data, Device, Overrides, read_data, read_settings
from llara_core.errors import ConfigError

index_app = typer.Typer(help="Build, refresh and show the index of a corpus.", rich_markup_mode=None)
Folder = Annotated[Path, typer.Argument(help="Index folder.")]
Cache = Annotated[
    Path | None, typer.Option(help="Folder of vectors that is shared with encode, evaluate, mine and search.")
]


@index_app.command("build")
def build(  # noqa: PLR0913, PLR0917 - the options of the command
    model: Bundle,
    output: Annotated[Path, typer.Option("--output", "-o", help="Index folder; an older index is replaced.")],
    data: Data = None,
    kind: Annotated[
        Literal["auto", "flat", "ivfpq", "hnsw"],
        typer.Option(help="flat is exact; auto: flat up to a million passages, then ivfpq."),
    ] = "auto",
    parameter: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=NUMBER", help="A parameter of the kind, e.g. nprobe=64; may be repeated."),
    ] = None,
    shards: Annotated[int, typer.Option(min=1, help="Files to spread the vectors over.")] = 1,
    dtype: Annotated[
        Literal["float32", "float16"], typer.Option(help="Of the numbers on disk; float16 halves them.")
    ] = "float32",
    config: Config = None,
    override: Overrides = None,
    device: Device = None,
    cache: Cache = None,
) -> None:
    """Encode a corpus and index it. A run that was killed goes on where it was when started again."""
    from llara_core.model.bundle import read_bundle
    from llara_core.model.retriever import Retriever
    from llara_core.retrieval.index import Index, IndexSettings
    from llara_core.retrieval.index_state import describe

    settings = IndexSettings(kind, _parameters(parameter or []), shards, dtype)
    bundle = read_bundle(model.expanduser())
    collection = read_data(data, read_settings(config, override), "unused")
    retriever = Retriever.from_pretrained(model, device)
    index = Index.build(
        output, retriever, collection.corpus_ids, collection.passages, settings,
        template=f"{bundle.template.name}-{bundle.template.version}", cache=cache,
    )  # fmt: skip
    typer.echo(f"{output}: {describe(index.manifest)}")


@index_app.command("refresh")
def refresh(
    folder: Folder,
    model: Bundle,
    data: Data = None,
    config: Config = None,
    override: Overrides = None,
    device: Device = None,
    cache: Cache = None,
) -> None:
    """Make an index follow a changed corpus; only new and changed passages are encoded."""
    from llara_core.model.bundle import read_bundle
    from llara_core.model.retriever import Retriever
    from llara_core.retrieval.index import Index
    from llara_core.retrieval.index_state import describe

    index = Index.open(folder)
    index.check_model(read_bundle(model.expanduser()).fingerprint)
    collection = read_data(data, read_settings(config, override), "unused")
    retriever = Retriever.from_pretrained(model, device)
    index = index.refresh(retriever, collection.corpus_ids, collection.passages, cache=cache)
    told = ", ".join(f"{count} {word}" for word, count in index.manifest["counts"].items())
    typer.echo(f"{folder}: {told}; {describe(index.manifest)}")


@index_app.command("show")
def show(
    folder: Folder,
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare every byte with what was written.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest.")] = False,
) -> None:
    """Say what an index holds, and whether it is sound."""
    import json

    from llara_core.retrieval.index import Index
    from llara_core.retrieval.index_state import describe

    manifest = Index.open(folder, verify=verify or None).manifest
    if as_json:
        typer.echo(json.dumps(manifest, ensure_ascii=False, indent=1))
        return
    fingerprint = manifest["fingerprint"]
    typer.echo(describe(manifest))
    for name in ("model", "template", "corpus"):
        typer.echo(f"{name}: {fingerprint[name] or 'unnamed'}")
    typer.echo(f"faiss: {manifest['faiss'] or 'not used'}")


def _parameters(words: list[str]) -> dict[str, int]:
    chosen = {}
    for word in words:
        name, _, value = word.partition("=")
        if not name.strip() or not value.strip().isdigit():
            raise ConfigError(f"--parameter {word}: expected NAME=NUMBER, e.g. nprobe=64")
        chosen[name.strip()] = int(value)
    return chosen
