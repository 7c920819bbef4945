"""``llara plan``: memory, time and cost of a run on devices that one does not have yet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from llara_core.cli.options import Overrides, read_values


def plan(  # noqa: PLR0913, PLR0917 - one argument per option
    config: Annotated[
        Path, typer.Argument(help="YAML whose `parameters:` hold the settings, e.g. configs/demo.yaml.")
    ],
    gpu: Annotated[
        str, typer.Option("--gpu", metavar="NAME", help="E.g. h100, a100-80gb, l4; cpu: this machine.")
    ],
    count: Annotated[int, typer.Option(min=1, help="Number of them.")] = 1,
    price: Annotated[float | None, typer.Option(min=0, help="Of one of them for an hour.")] = None,
    documents: Annotated[
        int | None, typer.Option(min=1, help="Documents to encode, for the disk that vectors take.")
    ] = None,
    mean_length: Annotated[
        int | None, typer.Option(min=1, help="Mean tokens of a text, for the time; default: the longest.")
    ] = None,
    mfu: Annotated[
        float | None, typer.Option(min=0.01, max=1.0, help="Share of the peak speed that is reached.")
    ] = None,
    memory_gib: Annotated[float | None, typer.Option(min=0.1, help="Memory of each, GiB.")] = None,
    tflops: Annotated[float | None, typer.Option(min=0.001, help="Peak speed of each, TFLOP/s.")] = None,
    model_config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="config.json of a model that is not here yet.")
    ] = None,
    override: Overrides = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: bytes and seconds.")] = False,
) -> None:
    """Say what a run needs, and whether it fits; exits 1 if it does not. Nothing is downloaded or run."""
    from llara_core.training.plan import Request, check_count, parse_plan_settings, plan_run
    from llara_core.training.plan_gpus import find_device
    from llara_core.training.plan_report import plan_text, plan_values

    settings = parse_plan_settings(read_values(config, override), "parameters")
    device = find_device(gpu, memory_gib, tflops, mfu)
    check_count(count, device)
    request = Request(device, count, price, documents, mean_length, model_config)
    made = plan_run(settings, request)
    typer.echo(json.dumps(plan_values(made), indent=2) if as_json else plan_text(made))
    if not made.fits:
        raise typer.Exit(1)
