"""``llara encode``: the vectors of a corpus, on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llara_core.cli.options import Config, Data, Device, Overrides, read_data, read_settings
from llara_core.files import check_writable, new_folder, write_json


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
