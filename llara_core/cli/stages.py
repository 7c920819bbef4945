"""The training stages: ``llara prepare``, ``adapt``, ``mine`` and ``finetune``."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from llara_core.cli.options import Config, Data, Device, Overrides, Seed, read_data, read_settings
from llara_core.config import ModelSettings, TrainingSettings
from llara_core.data.collection import Collection
from llara_core.data.passages import adaptation_rows
from llara_core.errors import ConfigError
from llara_core.files import check_writable

Base = Annotated[
    str | None,
    typer.Option(
        "--base",
        "--model",
        help="Bundle, or Hugging Face decoder (folder or id); default: the settings' model.",
    ),
]
Bundle = Annotated[Path, typer.Option("--model", help="Bundle folder, as the other stages write it.")]
OutputBundle = Annotated[Path, typer.Option("--output", "-o", help="Folder of the new bundle.")]


def prepare(
    output: OutputBundle,
    data: Data = None,
    base: Base = None,
    config: Config = None,
    override: Overrides = None,
    seed: Seed = None,
) -> None:
    """Write the unadapted base bundle: a decoder, its slots and its prompt template."""
    from llara_core.model.prepare import prepare_base

    settings = read_settings(config, override, seed)
    check_writable(output)
    collection = read_data(data, settings, "optional")
    _done(prepare_base(_model_settings(settings, base), collection, output, settings.seed))


def adapt(
    output: OutputBundle,
    data: Data = None,
    base: Base = None,
    config: Config = None,
    override: Overrides = None,
    seed: Seed = None,
) -> None:
    """Adapt a decoder to retrieval on plain text (EBAE and EBAR); no labels are needed."""
    from llara_core.training.adapt import adapt as run_adapt

    settings = read_settings(config, override, seed)
    check_writable(output)
    collection = read_data(data, settings, "optional")
    rows = adaptation_rows(collection)
    with _start(settings, base, collection, output) as start:
        _done(run_adapt(start, rows, settings.adapt, output, settings.seed))


def mine(
    model: Bundle,
    output: Annotated[Path, typer.Option("--output", "-o", help="File of negatives, .jsonl or .arrow.")],
    data: Data = None,
    config: Config = None,
    override: Overrides = None,
    seed: Seed = None,
    device: Device = None,
) -> None:
    """Mine hard negatives with BM25 and with the model's own search."""
    from llara_core.cli import negatives as negatives_file
    from llara_core.model.bundle import read_bundle
    from llara_core.model.retriever import Retriever
    from llara_core.retrieval.mining import mine as run_mine

    settings = read_settings(config, override, seed)
    negatives_file.check_suffix(output)
    check_writable(output)
    read_bundle(model)  # a wrong folder should fail before the corpus is read
    collection = read_data(data, settings)
    retriever = Retriever.from_pretrained(model, device)
    mined = run_mine(collection, retriever, settings.mine, settings.evaluate.bm25, settings.seed)
    negatives_file.write(mined.table, output)
    typer.echo(f"{mined.table.num_rows} negatives in {output}")


def finetune(
    output: OutputBundle,
    data: Data = None,
    base: Base = None,
    negatives: Annotated[
        Path | None,
        typer.Option(help="File from `llara mine`; may be left out with finetune.hard_negatives=0."),
    ] = None,
    config: Config = None,
    override: Overrides = None,
    seed: Seed = None,
) -> None:
    """Fine-tune on queries and their passages, with in-batch and hard negatives."""
    from llara_core.cli import negatives as negatives_file
    from llara_core.training.finetune import finetune as run_finetune

    settings = read_settings(config, override, seed)
    check_writable(output)
    if negatives is None and settings.finetune.hard_negatives:
        raise ConfigError(
            f"--negatives is missing, and finetune.hard_negatives is {settings.finetune.hard_negatives}; "
            "run `llara mine` first, or add --set finetune.hard_negatives=0"
        )
    table = negatives_file.read(negatives) if negatives is not None else negatives_file.SCHEMA.empty_table()
    collection = read_data(data, settings)
    with _start(settings, base, collection, output) as start:
        _done(run_finetune(start, collection, table, settings.finetune, output, settings.seed))


@contextmanager
def _start(
    settings: TrainingSettings, base: str | None, collection: Collection, output: Path
) -> Iterator[Path]:
    """The bundle to start from: the given one, or a base bundle made for this run alone."""
    from llara_core.model.bundle import CARD_NAME
    from llara_core.model.prepare import prepare_base

    if base is not None and (Path(base).expanduser() / CARD_NAME).is_file():
        yield Path(base).expanduser()
        return
    # Beside the output rather than under /tmp: a base model can be larger than a memory file system.
    output.absolute().parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}.base.", dir=output.absolute().parent) as folder:
        yield prepare_base(_model_settings(settings, base), collection, Path(folder) / "base", settings.seed)


def _model_settings(settings: TrainingSettings, base: str | None) -> ModelSettings:
    if base is None:
        return settings.model
    values = settings.model.model_dump() | {"base": base, "from_scratch": None}
    return ModelSettings.parse(values, "model")


def _done(folder: Path) -> None:
    typer.echo(f"bundle written to {folder}")
