"""Progress: plain lines outside a terminal, at most one in ten seconds."""

from __future__ import annotations

import pytest

from llara_core import progress
from llara_core.progress import Progress, track


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress.time, "monotonic", clock)
    return clock


def test_line_tells_rate_time_left_and_fields(clock, capsys):
    with Progress("adapt", total=200) as bar:
        for _ in range(120):
            clock.now += 0.5
            bar.update(loss=3.2149)
    lines = capsys.readouterr().err.splitlines()
    # 60 s in all: a line at 10, 20, ... 60 s, and the last one at the end.
    assert len(lines) == 7
    assert lines[0] == "adapt: 20/200 steps, 2 steps/s, 90 s left, loss 3.215"
    assert lines[-1] == "adapt: 120/200 steps, 2 steps/s, 40 s left, loss 3.215"


def test_short_work_is_silent(clock, capsys):
    with Progress("encode", total=3) as bar:
        for _ in range(3):
            clock.now += 3.0
            bar.update()
    captured = capsys.readouterr()
    assert captured.err == "" and captured.out == ""


def test_unknown_total_has_no_time_left(clock, capsys):
    with Progress("read", unit="rows") as bar:
        clock.now += 20.0
        bar.update(40)
    assert capsys.readouterr().err.splitlines()[0] == "read: 40 rows, 2 rows/s, 20 s so far"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0 s"), (119, "119 s"), (125, "2 min 05 s"), (7500, "2 h 05 min")]
)
def test_durations_read_naturally(seconds, text):
    assert progress._duration(seconds) == text


def test_track_yields_every_item_and_counts_them(clock, capsys):
    seen = []
    for item in track(["a", "b", "c"], "mine"):
        seen.append(item)
        clock.now += 11.0
    assert seen == ["a", "b", "c"]
    assert capsys.readouterr().err.splitlines()[0] == "mine: 1/3 items, 0.0909 items/s, 22 s left"


def test_terminal_gets_a_bar(monkeypatch, capsys):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with Progress("adapt", total=2) as bar:
        bar.update(2, loss=1.5)
    captured = capsys.readouterr()
    assert "adapt" in captured.err and "2/2" in captured.err and "loss 1.5" in captured.err
    assert captured.out == ""


def test_what_an_earlier_run_did_counts_as_done_but_not_as_speed(clock, capsys):
    with Progress("adapt", total=100) as bar:
        bar.skip(80)
        for _ in range(10):
            clock.now += 1.0
            bar.update()
    assert capsys.readouterr().err.splitlines()[0] == "adapt: 90/100 steps, 1 steps/s, 10 s left"
