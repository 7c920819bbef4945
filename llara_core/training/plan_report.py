"""A plan as text for people and as plain values for programs.

Source: issue 3, point 10.
"""

from __future__ import annotations

from typing import Any

from llara_core.training.plan import Plan, StagePlan
from llara_core.training.plan_rehearsal import KINDS, OPTIMIZER

ORDER = (*KINDS[:2], OPTIMIZER, *KINDS[2:])
NAMES = {OPTIMIZER: "optimiser"}


def plan_values(plan: Plan) -> dict[str, Any]:
    """Everything in the plan as JSON-able values: bytes, seconds, FLOPs."""
    return {
        "model": {
            "base": plan.model.base or f"from scratch: {_architecture(plan)}",
            "parameters": plan.parameters,
            "dtype": plan.model.dtype,
        },
        "device": {
            "name": plan.device.name,
            "title": plan.device.title,
            "count": plan.count,
            "memory_bytes": round(plan.device.memory),
            "usable_bytes": round(plan.device.usable),
            "assumed_utilisation": plan.device.utilisation,
        },
        "fits": plan.fits,
        "stages": {stage.name: _stage_values(stage) for stage in plan.stages},
        "seconds": sum(stage.seconds for stage in plan.stages),
        "cost": _cost(plan),
        "disk": {
            "checkpoints_bytes": round(max((stage.checkpoints for stage in plan.stages), default=0.0)),
            "bundles_bytes": round(plan.bundles),
            "vectors_bytes": None if plan.vectors is None else round(plan.vectors),
            "documents": plan.documents,
        },
    }


def _stage_values(stage: StagePlan) -> dict[str, Any]:
    placement, largest = stage.placement, stage.largest
    return {
        "fits": placement.fits,
        "layout": placement.layout,
        "memory_bytes": {kind: round(placement.parts[kind]) for kind in ORDER},
        "peak_bytes": round(placement.total),
        "peak_at": placement.moment,
        "trained_parameters": round(placement.rehearsal.trained),
        "micro_batches_per_step": round(placement.rehearsal.micro_batches),
        "largest_micro_batch": None
        if largest is None
        else {"rows": largest.rows, "micro_batch_tokens": largest.tokens, "whole_share": largest.all_of_it},
        "steps": stage.settings.steps,
        "flops_per_step": stage.flops,
        "seconds": stage.seconds,
        "cost": stage.cost,
        "would_fit": list(stage.would_fit),
    }


def plan_text(plan: Plan) -> str:
    """The plan for a terminal."""
    device = plan.device
    lines = [
        f"{plan.model.base or 'from scratch: ' + _architecture(plan)}: {_count(plan.parameters)} parameters",
        f"on {plan.count} x {device.title}: {size(device.memory)} each, {size(device.usable)} for tensors",
    ]
    for stage in plan.stages:
        lines += ["", *_stage_lines(stage, plan)]
    lines += ["", *_disk_lines(plan)]
    if plan.price is not None:
        lines.append(f"cost of both stages    {_cost(plan):,.2f} at {plan.price:,.2f} per device and hour")
    lines += ["", *_assumptions(plan)]
    return "\n".join(lines)


def _stage_lines(stage: StagePlan, plan: Plan) -> list[str]:
    placement = stage.placement
    verdict = "fits" if placement.fits else "DOES NOT FIT"
    lines = [f"{stage.name}: {verdict} ({placement.layout}; most memory at the {placement.moment})"]
    for kind in ORDER:
        lines.append(f"  {NAMES.get(kind, kind):<20} {size(placement.parts[kind]):>12}")
    lines.append(f"  {'peak of a device':<20} {size(placement.total):>12} of {size(placement.usable)}")
    lines += _largest_lines(stage)
    lines.append(
        f"  {'time':<20} {duration(stage.seconds):>12} for {stage.settings.steps:,} steps, "
        f"{stage.flops / 1e12:,.3g} TFLOP each"
    )
    if stage.cost is not None:
        lines.append(f"  {'cost':<20} {stage.cost:>12,.2f}")
    if stage.would_fit:
        lines += ["  what would fit:", *(f"    {words}" for words in stage.would_fit)]
    elif not placement.fits:
        lines.append("  nothing that is known here would fit")
    return lines


def _largest_lines(stage: StagePlan) -> list[str]:
    largest = stage.largest
    if largest is None or not largest.rows:
        return []
    label = "largest micro-batch"
    if largest.tokens is None:
        return [f"  {label:<20} {largest.rows:>12,} queries of one device with all their passages"]
    end = ": a device's whole share of a step" if largest.all_of_it else ""
    return [f"  {label:<20} {largest.tokens:>12,} tokens ({largest.rows:,} rows of full length{end})"]


def _disk_lines(plan: Plan) -> list[str]:
    most = max((stage.checkpoints for stage in plan.stages), default=0.0)
    lines = [
        f"disk for checkpoints   {size(most)} at most, while a stage runs",
        f"disk for models        {size(plan.bundles)}: the base and one after each stage",
    ]
    if plan.vectors is not None:
        lines.append(f"disk for vectors       {size(plan.vectors)}: {plan.documents:,} documents in float32")
    return lines


def _assumptions(plan: Plan) -> list[str]:
    device = plan.device
    lengths = (
        "every text has the longest length"
        if plan.mean_length is None
        else f"memory for texts of the longest length, time for {plan.mean_length} tokens each"
    )
    lines = [
        f"Assumed: {device.utilisation:.0%} of the device's peak (--mfu); {lengths} (--mean-length); "
        "tokenising, mining, judging and waiting for other devices take no time."
    ]
    wants_bf16 = plan.model.dtype == "bfloat16" or any(
        stage.settings.mixed_precision == "bf16" for stage in plan.stages
    )
    if wants_bf16 and device.bf16 is None:
        lines.append(f"{device.title} has no bfloat16 arithmetic: its float32 speed is assumed.")
    return lines


def _architecture(plan: Plan) -> str:
    return plan.model.from_scratch.architecture if plan.model.from_scratch is not None else ""


def _cost(plan: Plan) -> float | None:
    costs = [stage.cost for stage in plan.stages if stage.cost is not None]
    return sum(costs) if costs else None


def size(count: float) -> str:
    """Bytes in the unit that people would use."""
    for unit, name in ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB")):
        if count >= unit:
            return f"{count / unit:,.1f} {name}"
    return f"{count / 2**20:,.1f} MiB"


def _count(number: float) -> str:
    return f"{number / 1e9:.2f}B" if number >= 1e9 else f"{number / 1e6:.1f}M"


def duration(seconds: float) -> str:
    """Seconds in the unit that people would use."""
    for size, unit in ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes")):
        if seconds >= size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:.0f} seconds"
