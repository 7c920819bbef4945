"""``llara scale``: the tables, the JSON, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from llara_core.cli.scale import scale
from llara_core.errors import ConfigError

RATES = Path(__file__).resolve().parents[1] / "docs" / "results" / "scale.json"
MODEL = ["--model", "HuggingFaceTB/SmolLM2-135M", "--gpu", "h100"]


def run(*words: str):  # type: ignore[no-untyped-def]
    app = typer.Typer()
    app.command()(scale)
    return CliRunner().invoke(app, ["--passages", "100000000", *MODEL, *words])


def test_tables_with_the_measured_rates() -> None:
    done = run("--count", "8", "--price", "h100=2", "--rates", str(RATES))
    assert done.exit_code == 0, done.output
    assert "100,000,000 passages of 160 tokens; vectors of 576 dimensions, 2 bytes each" in done.output
    assert "time to merge" in done.output and "what breaks" in done.output


def test_json() -> None:
    values = json.loads(run("--price", "h100=2", "--json").output)
    assert values["sizes"]["vectors"] == 1e8 * 576 * 2
    [one] = values["encoding"]
    assert one["cost"] == pytest.approx(2 * one["device_hours"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--price", "h100"], "expected NAME=PRICE"),
        (["--price", "l4=1"], "'l4' is none of the devices"),
        (["--vectors", "int8"], "expected float32 or float16"),
    ],
)
def test_refused(words: list[str], message: str) -> None:
    done = run(*words)
    assert isinstance(done.exception, ConfigError) and message in str(done.exception)
