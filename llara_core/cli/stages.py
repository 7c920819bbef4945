"""The training stages: ``llara prepare``, ``adapt``, ``mine`` and ``finetune``."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from llara_core.cli.models import Bundle
from llara_core.cli.options import Config, Data, Device, Overrides, Seed, read_data, read_settings
from llara_core.config import ModelSettings, TrainingSettings
from llara_core.data.collection import Collection
from llara_core.data.passages import adaptation_rows
from llara_core.data.text_folder import read_text
from llara_core.errors import ConfigError, DataError
from llara_core.files import check_writable

logger = logging.getLogger(__name__)

Base = Annotated[
    str | None,
    typer.Option(
        "--base",
        "--model",
        help="Bundle, or Hugging Face decoder (folder or id); default: the settings' model.",
    ),
]
Fresh = Annotated[
    bool, typer.Option("--fresh", help="Start over: do not go on from what an interrupted run has kept.")
]
Text = Annotated[
    str | None,  # a Path would turn an empty word into this folder
    typer.Option(help="File or folder of text (.txt, .md, .jsonl, plain or .gz) in place of --data."),
]
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


def adapt(  # noqa: PLR0913, PLR0917 - one argument per option
    output: OutputBundle,
    data: Data = None,
    base: Base = None,
    config: Config = None,
    override: Overrides = None,
    seed: Seed = None,
    fresh: Fresh = False,
    text: Text = None,
) -> None:
    """Adapt a decoder to retrieval on plain text (EBAE and EBAR); no labels are needed."""
    from llara_core.training.adapt import adapt as run_adapt

    settings = read_settings(config, override, seed)
    _join_others(settings)
    check_writable(output)
    if text is not None and data is not None:
        raise ConfigError("--text and --data are both given; the text to adapt on is one of them")
    if text is not None and not text.strip():
        raise ConfigError("--text is empty (a variable that is not set?); name a file or folder of text")
    collection = read_text(Path(text)) if text is not None else read_data(data, settings, "optional")
    rows = adaptation_rows(collection)
    with _start(settings, base, collection, output) as start, _checkpoints(output, fresh) as kept:
        _done(run_adapt(start, rows, settings.adapt, output, settings.seed, checkpoints=kept))


def mine(  # noqa: PLR0913, PLR0917 - one argument per option
    model: Bundle,
    output: Annotated[Path, typer.Option("--output", "-o", help="File of negatives, .jsonl or .arrow.")],
    data: Data = None,
    config: Config = None,
    override: Overrides = None,
    seed: Seed = None,
    device: Device = None,
    audit: Annotated[
        Path | None,
        typer.Option(help="HTML page to write: how hard the negatives are, and how many are suspect."),
    ] = None,
) -> None:
    """Mine hard negatives with BM25 and with the model's own search."""
    from llara_core.cli import negatives as negatives_file
    from llara_core.model.bundle import read_bundle
    from llara_core.model.retriever import Retriever
    from llara_core.retrieval.audit import summary_lines
    from llara_core.retrieval.mining import mine as run_mine

    settings = read_settings(config, override, seed)
    negatives_file.check_suffix(output)
    check_writable(output)
    if audit is not None:
        check_writable(audit)
    read_bundle(model)  # a wrong folder should fail before the corpus is read
    collection = read_data(data, settings)
    retriever = Retriever.from_pretrained(model, device)
    mined = run_mine(collection, retriever, settings.mine, settings.evaluate.bm25, settings.seed)
    negatives_file.write(mined.table, output)
    typer.echo("\n".join(summary_lines(mined.audit)))
    typer.echo(f"{mined.table.num_rows} negatives in {output}")
    if audit is not None:
        from llara_core.evaluation.audit_page import write_audit_page

        typer.echo(f"the audit as a page: {write_audit_page(mined.audit, audit)}")


def finetune(  # noqa: PLR0913, PLR0917 - one argument per option
    output: OutputBundle,
    data: Data = None,
    base: Base = None,
    negatives: Annotated[
        Path | None,
        typer.Option(help="File from `llara mine`; may be left out with finetune.hard_negatives=0."),
    ] = None,
    teacher: Annotated[
        Path | None,
        typer.Option(
            help="File of scores to distil (.jsonl or .arrow: query_id, corpus_id, score), with "
            "finetune.distillation_weight."
        ),
    ] = None,
    config: Config = None,
    override: Overrides = None,
    seed: Seed = None,
    fresh: Fresh = False,
) -> None:
    """Fine-tune on queries and their passages, with in-batch and hard negatives."""
    from llara_core.cli import negatives as negatives_file
    from llara_core.training.distillation import TEACHER_SCHEMA, check_teacher
    from llara_core.training.finetune import finetune as run_finetune

    settings = read_settings(config, override, seed)
    _join_others(settings)
    check_writable(output)
    if negatives is None and settings.finetune.hard_negatives:
        raise ConfigError(
            f"--negatives is missing, and finetune.hard_negatives is {settings.finetune.hard_negatives}; "
            "run `llara mine` first, or add --set finetune.hard_negatives=0"
        )
    table = negatives_file.read(negatives) if negatives is not None else negatives_file.SCHEMA.empty_table()
    scores = None if teacher is None else negatives_file.read_table(teacher, TEACHER_SCHEMA, "teacher scores")
    check_teacher(settings.finetune, scores)
    collection = read_data(data, settings)
    with _start(settings, base, collection, output) as start, _checkpoints(output, fresh) as kept:
        _done(
            run_finetune(
                start, collection, table, settings.finetune, output, settings.seed,
                teacher=scores, checkpoints=kept,
            )
        )  # fmt: skip


def _join_others(settings: TrainingSettings) -> None:
    """Connect to the processes that ``accelerate launch`` started; only the main one says what it does."""
    from llara_core.training.distributed import connect, is_main, launched_processes

    connect()
    if launched_processes() == 1 and (settings.launch.processes, settings.launch.nodes) != (1, 1):
        logger.warning(
            "launch: is for the pipelines, and one process trains here; for several put `accelerate launch` "
            "before the command (docs/guides/many-gpus.md)"
        )
    if not is_main():
        logging.getLogger("llara_core").setLevel(logging.WARNING)


@contextmanager
def _checkpoints(output: Path, fresh: bool) -> Iterator[Path]:
    """``<output>.checkpoints``, from which an interrupted run goes on; removed when the output stands.

    Args:
        output: of the stage.
        fresh: remove first what is in it.
    """
    from llara_core.training.distributed import is_main
    from llara_core.training.run_folders import discard

    folder = output.absolute().with_name(f"{output.absolute().name}.checkpoints")
    if is_main():
        removed = discard(folder) if fresh else 0
        if removed:
            logger.info("starting over: the checkpoints of %d runs in %s are removed", removed, folder)
        for left in folder.parent.glob(f".{output.name}.????????.part"):  # half a bundle of a killed run
            shutil.rmtree(left, ignore_errors=True)
    try:
        yield folder
    finally:
        if is_main():
            _tidy(folder)


def _tidy(folder: Path) -> None:
    from llara_core.training.run_folders import discard

    try:
        discard(folder, keep_resumable=True)
    except DataError as error:  # whatever the stage has to say matters more
        logger.warning("%s", error)


@contextmanager
def _start(
    settings: TrainingSettings, base: str | None, collection: Collection, output: Path
) -> Iterator[Path]:
    """The bundle to start from: the given one, or a base bundle made for this run alone.

    With several processes the main one makes it; the others read it, so on several machines the output's
    folder must be one that all of them see.
    """
    from llara_core.model.bundle import CARD_NAME
    from llara_core.model.prepare import prepare_base
    from llara_core.training.distributed import barrier, is_main, run_on_main

    if base is not None and (Path(base).expanduser() / CARD_NAME).is_file():
        yield Path(base).expanduser()
        return
    # Beside the output rather than under /tmp: a base model can be larger than a memory file system.
    output.absolute().parent.mkdir(parents=True, exist_ok=True)
    parent = output.absolute().parent
    if is_main():
        for left in parent.glob(f".{output.name}.base.*"):  # of a run that was killed
            shutil.rmtree(left, ignore_errors=True)
    barrier()
    with tempfile.TemporaryDirectory(prefix=f".{output.name}.base.", dir=parent) as folder:

        def make() -> str:
            model = _model_settings(settings, base)
            return str(prepare_base(model, collection, Path(folder) / "base", settings.seed))

        yield Path(run_on_main(make))
        barrier()  # the main process removes the folder: everyone must have read it


def _model_settings(settings: TrainingSettings, base: str | None) -> ModelSettings:
    if base is None:
        return settings.model
    values = settings.model.model_dump() | {"base": base, "from_scratch": None}
    return ModelSettings.parse(values, "model")


def _done(folder: Path) -> None:
    from llara_core.training.distributed import is_main

    if is_main():
        typer.echo(f"bundle written to {folder}")
