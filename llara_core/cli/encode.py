"""``llara encode``: the vectors of a corpus, on disk."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from llara_core.cli.models import Bundle
from llara_core.cli.options import Config, Data, Device, Overrides, read_data, read_settings
from llara_core.files import check_replaceable, check_writable, new_folder, write_json

_PROOF = ("vectors.npy",)  # what tells an earlier output of ours


def encode(  # noqa: PLR0913, PLR0917 - the options of the command
    model: Bundle,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="Folder for vectors.npy, hashes.npy, ids.json and vectors.json."),
    ],
    data: Data = None,
    config: Config = None,
    override: Overrides = None,
    device: Device = None,
    dtype: Annotated[
        Literal["float32", "float16"], typer.Option(help="Of the numbers on disk; float16 halves them.")
    ] = "float32",
    processes: Annotated[
        int,
        typer.Option(min=1, help="Processes that share the work: on CUDA one a GPU, each with the model."),
    ] = 1,
    cache: Annotated[
        Path | None,
        typer.Option(help="Folder of vectors that is shared with evaluate, mine and search."),
    ] = None,
) -> None:
    """Encode a corpus: vectors [N, D], hashes and ids of their rows, and what they came from.

    A run that was killed goes on where it was when it is started again.
    """
    from llara_core.model.bundle import read_bundle
    from llara_core.retrieval.vector_processes import encode_corpus

    settings = read_settings(config, override)
    check_writable(output)
    check_replaceable(output, _PROOF)
    bundle = read_bundle(model.expanduser())
    collection = read_data(data, settings, "unused")
    working = output.absolute().parent / f".{output.absolute().name}.encoding"  # what a killed run leaves
    done = encode_corpus(
        model.expanduser(), collection.passages, cache or working, processes=processes, device=device,
        dtype=dtype,
    )  # fmt: skip
    facts: dict[str, Any] = {
        "model": str(model),
        "fingerprint": bundle.fingerprint,
        "dimension": int(done.vectors.shape[1]),
        "documents": int(done.vectors.shape[0]),
        "collection": collection.name,
        "dtype": dtype,
        "passage_length": bundle.passage_length,
        "encoding": done.facts,
    }
    with new_folder(output, replace=_PROOF) as folder:
        for name in ("vectors.npy", "hashes.npy"):
            source = (done.folder or working) / name
            if cache is None:
                source.replace(folder / name)
            else:
                shutil.copyfile(source, folder / name)
        write_json(folder / "ids.json", list(collection.corpus_ids))
        write_json(folder / "vectors.json", facts)
    if cache is None:
        shutil.rmtree(working)
    typer.echo(f"{facts['documents']} vectors of {facts['dimension']} dimensions in {output}")
    typer.echo(_told(done.facts, bundle.passage_length))


def _told(facts: dict[str, Any], length: int) -> str:
    """How the vectors came about, in one line."""
    parts = [f"{facts['encoded']} encoded"]
    parts += [f"{facts[name]} {said}" for name, said in _SAID.items() if facts[name]]
    if facts["encoded"]:
        parts.append(f"{facts['tokens_per_second']:,.0f} tokens/s")
    if facts["encoded"] or facts["resumed"]:
        parts.append(f"{facts['cut']} cut at {length} tokens")
    return ", ".join(parts)


_SAID = {"resumed": "by an interrupted run", "copied": "taken from known texts"}
