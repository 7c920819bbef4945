"""``llara scale``: what a corpus of a hundred million passages would take, before there is one."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llara_core.errors import ConfigError, DataError

if TYPE_CHECKING:
    from llara_core.operations.scale import Rates

_GB = 10**9


def scale(  # noqa: PLR0913, PLR0917 - one argument per option
    passages: Annotated[int, typer.Option(min=1, help="Passages of the corpus.")],
    model: Annotated[str, typer.Option(help="Id or folder of the model, as in model.base.")],
    gpu: Annotated[list[str], typer.Option("--gpu", metavar="NAME", help="E.g. h100; may be given again.")],
    mean_tokens: Annotated[
        float, typer.Option(min=1, help="Of a passage, prompt and slots included.")
    ] = 160.0,
    vectors: Annotated[str, typer.Option(help="float32 or float16: how vectors are kept.")] = "float16",
    count: Annotated[int, typer.Option(min=1, help="Devices that work at once, a shard each.")] = 1,
    price: Annotated[
        list[str] | None, typer.Option(metavar="NAME=PRICE", help="Of one device for an hour.")
    ] = None,
    mfu: Annotated[
        float | None, typer.Option(min=0.01, max=1.0, help="Share of the peak speed that is reached.")
    ] = None,
    memory_gb: Annotated[float, typer.Option(min=1, help="Memory of the machine that searches, GB.")] = 256.0,
    disk_gb: Annotated[float, typer.Option(min=1, help="Disk of the machine that merges, GB.")] = 2000.0,
    rates: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Measured rates, from benchmarks/scale.py.")
    ] = None,
    model_config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="config.json of a model that is not here yet.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: bytes and seconds.")] = False,
) -> None:
    """Say what encoding and searching a corpus of any size takes. Nothing is downloaded or run."""
    from llara_core.operations.scale import as_plain, encodings, first_limits, indexes, sizes
    from llara_core.operations.scale_model import corpus_of
    from llara_core.operations.scale_text import scale_text
    from llara_core.training.plan_gpus import find_device

    if vectors not in ("float32", "float16"):
        raise ConfigError(f"--vectors: expected float32 or float16, got {vectors!r}")
    devices = [find_device(name, utilisation=mfu) for name in gpu]
    prices = _prices(price or [], [device.name for device in devices])
    corpus = corpus_of(model, passages, mean_tokens, vectors, model_config)  # type: ignore[arg-type]
    measured = None if rates is None else read_rates(rates)
    machine = (memory_gb * _GB, disk_gb * _GB)
    if not as_json:
        typer.echo(scale_text(corpus, devices, count, prices, measured, machine))
        return
    values = {
        "corpus": asdict(corpus),
        "encoding": as_plain(encodings(corpus, devices, count, prices)),
        "sizes": sizes(corpus),
        "indexes": as_plain(indexes(corpus, measured)),
        "limits": dict(first_limits(corpus, *machine)),
    }
    typer.echo(json.dumps(values, indent=2))


def read_rates(file: Path) -> Rates:
    """The rates that ``benchmarks/scale.py`` has measured.

    Raises:
        DataError: the file is missing, or holds something else.
    """
    from llara_core.operations.scale import Rates

    try:
        return Rates(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise DataError(
            f"no measured rates ({error}); benchmarks/scale.py writes them", file=file, rule="readable"
        ) from None


def _prices(given: list[str], known: list[str]) -> dict[str, float]:
    found = {}
    for one in given:
        name, _, value = one.partition("=")
        try:
            found[name] = float(value)
        except ValueError:
            raise ConfigError(f"--price: expected NAME=PRICE, e.g. h100=2.5; got {one!r}") from None
        if name not in known:
            raise ConfigError(
                f"--price: {name!r} is none of the devices given with --gpu: {', '.join(known)}"
            )
        if found[name] < 0:
            raise ConfigError(f"--price: a price is not negative; got {one!r}")
    return found
