"""``llara selftest``: does this machine compute what it should?"""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Literal

import typer

from llara_core.cli.options import Device

_COLUMNS = "{:<15}  {:<25}  {:>11}  {:>11}  {:>11}  {:>9}  {}"


class Kernel(str, Enum):
    """Attention kernels that take a mask of ours."""

    SDPA = "sdpa"
    EAGER = "eager"
    FLEX = "flex_attention"


def selftest(
    golden: Annotated[
        Path | None,
        typer.Option(help="Folder with model/ and expected.json; default: the one in the package."),
    ] = None,
    device: Device = None,
    dtype: Annotated[
        Literal["float32", "bfloat16"], typer.Option(help="Of the weights and the arithmetic.")
    ] = "float32",
    attention: Annotated[
        list[Kernel] | None,
        typer.Option(help="Attention kernel; may be repeated; default: sdpa and eager."),
    ] = None,
) -> None:
    """Compute what the published code computed, and compare; exits 1 on a miss.

    One adaptation and one contrastive step: losses, gradient norms and embeddings. Worth running on every
    new GPU, driver or version of torch.
    """
    import torch

    from llara_core.environment import version
    from llara_core.golden_values import GOLDEN, Golden
    from llara_core.model.backbone import choose_device
    from llara_core.selftest import KERNELS, RELATIVE, self_test

    folder = golden or GOLDEN
    Golden.read(folder)  # a wrong folder or device should fail before anything is shown
    place = choose_device(device)
    name = torch.cuda.get_device_name(place) if place.startswith("cuda") else place
    packages = ", ".join(f"{package} {version(package)}" for package in ("torch", "transformers"))
    typer.echo(f"{name}, {dtype}, {packages}; golden values of {golden or 'the package'}")
    typer.echo(_COLUMNS.format("kernel", "quantity", "expected", "got", "deviation", "tolerance", ""))
    kernels = [kernel.value for kernel in attention] if attention else KERNELS
    missed = 0
    for outcome in self_test(folder, place, dtype, kernels):
        missed += not outcome.ok
        mark = " (rel)" if outcome.quantity in RELATIVE else ""
        typer.echo(
            _COLUMNS.format(
                outcome.kernel,
                outcome.quantity,
                f"{outcome.expected:.6f}",
                f"{outcome.got:.6f}",
                f"{outcome.deviation:.1e}",
                f"{outcome.tolerance:.0e}",
                ("ok" if outcome.ok else "MISS") + mark,
            )
        )
    if missed:
        noun = "quantity" if missed == 1 else "quantities"
        typer.echo(f"{missed} {noun} missed: this machine computes something else", err=True)
        raise typer.Exit(1)
    typer.echo("all is well: of embeddings the mean size is shown and the worst element compared")
