"""However deep a signal falls, it ends the run; without one, nothing changes."""

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pipelines.interrupts import Heeded

ROOT = Path(__file__).resolve().parents[2]
START = """
import signal, sys, threading, time
# a shell that starts its children by "&" has them ignore SIGINT
signal.signal(signal.SIGINT, signal.default_int_handler)
from pipelines.interrupts import Heeded

def ready():
    print("ready", flush=True)
"""
# Each swallows the first interrupt; what follows ends only if somebody asks again.
SWALLOWS = """
with Heeded(again=(1, 2), last=40):
    ready()
    for _ in range(2):
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            pass
    time.sleep(60)
"""
FINALISER = """
class Kept:
    def __del__(self):
        ready()
        time.sleep(60)

with Heeded(again=(1, 2), last=40):
    kept = Kept()
    del kept  # an exception in here is printed and ignored
    time.sleep(60)
"""
DEADLOCK = """
lock = threading.Lock()
def handler(number, frame):
    with lock:
        raise KeyboardInterrupt
signal.signal(signal.SIGINT, handler)
signal.signal(signal.SIGTERM, handler)
with Heeded(again=(1, 2), last=3):
    with lock:
        ready()
        time.sleep(60)
"""
HELD_UP_AT_THE_END = """
threading.Thread(target=time.sleep, args=(60,)).start()
try:
    with Heeded(again=(1, 2), last=3):
        ready()
        time.sleep(60)
except KeyboardInterrupt:
    print("left", flush=True)
"""
DONE_ANYHOW = """
with Heeded(again=(2, 3), last=4):
    ready()
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        pass
time.sleep(5)
print("done", flush=True)
"""
# A worker that was forked has the parent's handlers, and is ended as pools end theirs.
FORKED = """
import multiprocessing, os
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
with Heeded(again=(1, 2), last=3):
    worker = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    worker.start()
    time.sleep(0.5)
    worker.terminate()
    worker.join()
    time.sleep(2)
    ready()
    time.sleep(60)
"""
LAUNCHER = """
from pipelines import __main__ as launcher, interrupts
interrupts.Heeded.__init__.__defaults__ = ((1.0, 2.0), 40.0)
def work():
    ready()
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        pass
    time.sleep(60)
launcher._exit(work, debug=False)
"""


def send(program: str, number: signal.Signals = signal.SIGINT, stopped: float = 0) -> tuple[int, str, str]:
    """Run a program, send it a signal when it is ready, stop it for seconds; exit code, stdout, stderr."""
    process = subprocess.Popen(
        [sys.executable, "-c", START + program],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.3)
        process.send_signal(number)
        if stopped:
            time.sleep(0.3)  # the thread that looks on has heard it
            process.send_signal(signal.SIGSTOP)
            time.sleep(stopped)
            process.send_signal(signal.SIGCONT)
        said, told = process.communicate(timeout=50)  # the sleeps take longer
    finally:
        process.kill()
        process.wait()
    return process.returncode, said, told


@pytest.mark.parametrize(("program", "times"), [(SWALLOWS, 2), (FINALISER, 1)])
def test_an_interrupt_that_was_lost_is_sent_again(program: str, times: int) -> None:
    code, _, told = send(program)
    assert code in (1, -signal.SIGINT)
    assert told.rstrip().endswith("KeyboardInterrupt")  # the last one ended the work
    assert told.count("still at work") == times
    assert "interrupting again" in told and "by force" not in told


def test_a_machine_that_stood_still_is_not_interrupted_twice_at_once() -> None:
    code, _, told = send(SWALLOWS, stopped=3)  # when both interrupts are due
    assert code in (1, -signal.SIGINT)
    assert told.count("still at work") == 2 and "by force" not in told


def test_the_launcher_heeds() -> None:
    code, _, told = send(LAUNCHER)
    assert code == 1
    assert told.splitlines() == [
        "llara: still at work 1 s after SIGINT; interrupting again",
        "llara: interrupted; nothing was registered or promoted",
    ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_handler_that_waits_for_what_it_interrupted_is_cut_off(number: signal.Signals) -> None:
    code, _, told = send(DEADLOCK, number)
    assert code == 1
    assert "in handler" in told  # where it was held up
    assert told.rstrip().splitlines()[-1].startswith("llara: interrupted; the process was held up")
    assert f"3 s after {number.name}" in told


def test_a_signal_to_a_forked_child_is_none_to_its_parent() -> None:
    """Sent again, it would end the parent before it is ready; what is sent to the parent still counts."""
    code, _, told = send(FORKED)
    assert code in (1, -signal.SIGINT)
    assert told.rstrip().endswith("KeyboardInterrupt") and "still at work" not in told


def test_a_process_that_cannot_end_is_cut_off() -> None:
    code, said, told = send(HELD_UP_AT_THE_END)
    assert (code, said) == (1, "left\n")
    assert "by force" in told and "still at work" not in told  # it had left: nobody asks again


def test_work_that_ended_well_in_spite_of_it_is_not_cut_off() -> None:
    code, said, told = send(DONE_ANYHOW)
    assert (code, said, told) == (0, "done\n", "")


def looking_on() -> int:
    return sum(one.name == "interrupts" for one in threading.enumerate())


@pytest.mark.parametrize("error", [None, ValueError])
def test_without_a_signal_nothing_stays(error: type[Exception] | None) -> None:
    before = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(before)
    try:
        with Heeded():
            assert looking_on() == 1
            if error is not None:
                raise error
    except ValueError:
        pass
    assert signal.set_wakeup_fd(before) == before
    until = time.monotonic() + 20
    while looking_on() and time.monotonic() < until:
        time.sleep(0.01)
    assert not looking_on()


def test_other_signals_are_none_of_its_business() -> None:
    previous = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        with Heeded(again=(0.1,), last=0.3):
            signal.raise_signal(signal.SIGUSR1)
            time.sleep(0.6)
            assert looking_on() == 1
    finally:
        signal.signal(signal.SIGUSR1, previous)
