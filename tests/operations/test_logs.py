from __future__ import annotations

import io
import json
import logging
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from llara_core.cli.app import run
from llara_core.errors import ConfigError
from llara_core.operations import logs
from llara_core.progress import Progress


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """What a logger of ours writes as JSON."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(logs.JsonFormatter(lambda: {"step": "adapt", "run_id": "r-1"}))
    logger = logging.getLogger("llara_core.test_logs")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    yield text
    logger.removeHandler(handler)
    logger.propagate = True
    logs.bind({})


def lines(text: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.getvalue().splitlines()]


def test_a_record_is_one_line_with_the_ids(stream: io.StringIO) -> None:
    logging.getLogger("llara_core.test_logs").info("two\nlines of %s", "text", extra={"loss": 0.5})
    (line,) = lines(stream)
    assert line["message"] == "two\nlines of text"
    assert (line["level"], line["logger"]) == ("INFO", "llara_core.test_logs")
    assert (line["step"], line["run_id"], line["loss"]) == ("adapt", "r-1", 0.5)
    assert line["time"].endswith("+00:00")


def test_a_traceback_stays_in_its_line(stream: io.StringIO) -> None:
    try:
        raise ValueError("planted")
    except ValueError:
        logging.getLogger("llara_core.test_logs").exception("it failed")
    (line,) = lines(stream)
    assert line["exception"].endswith("ValueError: planted")
    assert "Traceback" in line["exception"]


def test_whatever_is_logged_becomes_json() -> None:
    # Not through a logger: what pytest captures is sent between its processes, and they refuse surrogates.
    record = logging.makeLogRecord({"msg": "\ud800 \x00 \N{SNOWMAN}", "odd": object(), "name2": {1}})
    line = logs.JsonFormatter().format(record)
    line.encode("utf-8")  # a stream would refuse a lone surrogate
    assert json.loads(line)["message"] == "\ud800 \x00 \N{SNOWMAN}"


def test_extra_fields_do_not_hide_what_every_line_has(stream: io.StringIO) -> None:
    logging.getLogger("llara_core.test_logs").info("words", extra={"level": "mine", "time": "never"})
    (line,) = lines(stream)
    assert line["level"] == "INFO"
    assert line["time"] != "never"


def test_context_ends_with_its_block_and_binds_no_thread(stream: io.StringIO) -> None:
    logger = logging.getLogger("llara_core.test_logs")
    logs.bind({"run": "whole-process"})
    with logs.log_context(step="mine"):
        logger.info("inside")
        thread = threading.Thread(target=logger.info, args=("other thread",))
        thread.start()
        thread.join()
    logger.info("outside")
    inside, thread_line, outside = lines(stream)
    assert (inside["step"], inside["run"]) == ("mine", "whole-process")
    assert (thread_line["step"], thread_line["run"]) == ("adapt", "whole-process")
    assert outside["step"] == "adapt"


@pytest.mark.parametrize(
    ("given", "variable", "found"),
    [
        (None, None, "text"),
        (None, "json", "json"),
        ("text", "json", "text"),
        ("json", None, "json"),
        (None, "", "text"),
    ],
)
def test_the_option_beats_the_variable(
    monkeypatch: pytest.MonkeyPatch, given: str | None, variable: str | None, found: str
) -> None:
    monkeypatch.delenv(logs.FORMAT, raising=False)
    if variable is not None:
        monkeypatch.setenv(logs.FORMAT, variable)
    assert logs.chosen_format(given) == found


def test_unknown_formats_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="--log-format: got 'xml'"):
        logs.chosen_format("xml")
    monkeypatch.setenv(logs.FORMAT, "yaml")
    with pytest.raises(ConfigError, match="LLARA_LOG_FORMAT: got 'yaml'"):
        logs.chosen_format()


@pytest.mark.parametrize("words", [
    ["--log-format", "json", "evaluate", "--model", "/nowhere/at/all", "--data", "/nowhere/at/all"],
    ["evaluate", "--model", "/nowhere/at/all", "--data", "/nowhere/at/all", "--log-format=json"],
])  # fmt: skip
def test_the_command_line_reports_as_json(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(logs.FORMAT, "text")  # what the command sets is undone
    assert run(words) == 2
    captured = capsys.readouterr()
    line = json.loads(captured.err.splitlines()[-1])
    assert line["level"] == "ERROR"
    assert "/nowhere/at/all" in line["message"]
    assert not captured.out


@pytest.mark.parametrize("words", [["doctor", "--log-format", "xml"], ["doctor", "--log-format"]])
def test_the_command_line_refuses_an_unknown_format(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words) == 2
    assert "--log-format" in capsys.readouterr().err


def test_progress_becomes_records(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(logs.FORMAT, "json")
    monkeypatch.setattr("llara_core.progress.PLAIN_INTERVAL", 0.0)
    caplog.set_level(logging.INFO, "llara_core.progress")
    # Handlers that other tests have left write to streams of theirs.
    monkeypatch.setattr(logging.getLogger(), "handlers", [caplog.handler])
    with Progress("adapt", total=2) as progress:
        progress.update(loss=1.5)
        progress.update(loss=1.25)
    assert [record.getMessage().split(",")[0] for record in caplog.records] == [
        "adapt: 1/2 steps", "adapt: 2/2 steps", "adapt: 2/2 steps"
    ]  # fmt: skip
    assert not capsys.readouterr().err


def test_say_is_plain_or_a_record(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(logs.FORMAT, "text")
    logs.say("plain words")
    monkeypatch.setenv(logs.FORMAT, "json")
    logs.say("words of a record", "ERROR")
    plain, record = capsys.readouterr().err.splitlines()
    assert plain == "plain words"
    assert json.loads(record)["level"] == "ERROR"


def test_files_and_other_handlers_keep_their_format() -> None:
    plain = logging.Formatter("%(message)s")
    handlers = [logging.StreamHandler(sys.stderr), logging.NullHandler()]
    logger = logging.getLogger("llara_core.test_logs.handlers")
    others = {one: one.formatter for one in logging.getLogger().handlers}
    for handler in handlers:
        handler.setFormatter(plain)
        logger.addHandler(handler)
    try:
        assert logs.use_json() >= 1
        assert isinstance(handlers[0].formatter, logs.JsonFormatter)
        assert handlers[1].formatter is plain
    finally:
        for handler in handlers:
            logger.removeHandler(handler)
        for one, formatter in others.items():
            one.setFormatter(formatter)
