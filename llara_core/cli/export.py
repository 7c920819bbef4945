"""``llara export``: a bundle for other people's tools."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llara_core.cli.models import WHERE, local
from llara_core.cli.options import Config, Data, Overrides, read_settings
from llara_core.errors import ConfigError

if TYPE_CHECKING:
    from llara_core.cli.export_scores import Measuring
    from llara_core.model.export_card import Score


def export(  # noqa: PLR0913, PLR0917 (one argument an option)
    model: Annotated[
        Path, typer.Argument(metavar=WHERE, callback=local, help="Bundle, or a version of the registry.")
    ],
    to: Annotated[
        str, typer.Option("--to", metavar="TARGET", help="sentence-transformers, merged, adapter or onnx.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to make.")],
    force: Annotated[
        bool, typer.Option("--force", help="Replace an earlier export that lies there.")
    ] = False,
    base: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER|ID",
            help="The model that training started from: what an adapter stands on, and whose card is asked "
            "for the licence. Default: what the bundle says.",
        ),
    ] = None,
    int8: Annotated[
        bool, typer.Option("--int8", help="With --to onnx: a graph with weights in 8 bits as well.")
    ] = False,
    data: Data = None,
    split: Annotated[str, typer.Option(help="With --data: the split that is judged.")] = "test",
    results: Annotated[
        Path | None,
        typer.Option(help="What `llara evaluate --results` kept: its scores of this model go into the card."),
    ] = None,
    config: Config = None,
    override: Overrides = None,
) -> None:
    """Write a bundle for sentence-transformers, transformers, peft or onnxruntime, with a model card.

    What is written is compared with the bundle's own vectors first. With --data the card tells nDCG@10 on a
    collection, with intervals; of --int8 also what the 8 bits cost.
    """
    from llara_core.model.export import ExportOptions, export_bundle

    source, place = model.expanduser(), output.expanduser()
    scores = _kept_scores(source, results)
    record = export_bundle(
        source,
        to,
        place,
        force=force,
        options=ExportOptions(base=base, int8=int8, scores=scores),
        measure=_measuring(data, split, config, override),
    )
    least = record["facts"].get("least_cosine")
    told = "" if least is None else f", least cosine to the bundle's vectors {least:.6f}"
    typer.echo(f"{to}: {place} ({len(record['files'])} files{told})")
    for score in record["scores"]:
        typer.echo(
            f"{score['collection']}/{score['split']} {score['system']}: "
            f"{score['metric']} {score['value']:.4f} ({score['low']:.4f} to {score['high']:.4f})"
        )
    loss = record["facts"].get("int8_change")
    if loss is not None:
        typer.echo(
            f"int8 minus float32: {loss['difference']:+.4f} ({loss['low']:+.4f} to {loss['high']:+.4f})"
        )


def _kept_scores(source: Path, results: Path | None) -> list[Score]:
    if results is None:
        return []
    from llara_core.cli.export_scores import kept_scores
    from llara_core.model.bundle import read_bundle

    scores = kept_scores(results.expanduser(), read_bundle(source).fingerprint)
    if not scores:
        raise ConfigError(
            f"--results {results}: holds no result of this model; give the folder that "
            f"`llara evaluate --model {source} --results` wrote"
        )
    return scores


def _measuring(
    data: str | None, split: str, config: Path | None, override: list[str] | None
) -> Measuring | None:
    if data is None:
        return None
    from llara_core.cli.export_scores import Measuring
    from llara_core.cli.options import read_data

    collection = read_data(data, read_settings(config, override))
    collection.judgements(split)  # a split that is not there is told before the work
    return Measuring(collection, split)
