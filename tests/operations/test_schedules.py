from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from llara_core.errors import ConfigError, DataError, LlaraError
from llara_core.operations import schedules
from llara_core.operations.schedules import Record, RecordStore, plan, read_environment_file, stored_name
from llara_core.operations.schedules_crontab import (
    Line,
    minutes_to_look,
    read_crontab,
    replace_block,
    write_crontab,
)
from llara_core.operations.schedules_tick import Look, State, look, only_one
from llara_core.operations.schedules_times import find_zone, parse_cron
from llara_core.schedule_settings import ScheduleSettings

SETTINGS = {"config": "configs/tiny.yaml", "cron": "30 2 * * *", "timezone": "Europe/Berlin"}
NOW = datetime(2026, 11, 24, 12, tzinfo=timezone.utc)


def line(name: str = "nightly", paused: bool = False, folder: str = "/a b/100%") -> Line:
    return Line(
        name, parse_cron("30 2 * * *"), ["python", "-m", "x", name], Path("/log"), Path(folder), paused
    )


@pytest.mark.parametrize(
    "crontab",
    [
        b"",
        b"MAILTO=me\n0 1 * * * backup\n",
        b"# \xe4 not UTF-8\r\n0 1 * * * backup\n",
        b"0 1 * * * backup",  # no line break at the end
    ],
)
def test_the_users_lines_stay_byte_for_byte(crontab: bytes) -> None:
    once = replace_block(crontab, "/checkout", [line()])
    assert replace_block(once, "/checkout", [line()]) == once
    other = replace_block(once, "/checkout-2", [line("other")])
    changed = replace_block(other + b"@daily later\n", "/checkout", [line(paused=True)])
    assert b"other" in changed
    assert b"# paused: 0,15,30,45 * * * *" in changed
    gone = replace_block(replace_block(changed, "/checkout", []), "/checkout-2", [])
    assert (
        gone == (crontab if crontab.endswith(b"\n") or not crontab else crontab + b"\n") + b"@daily later\n"
    )


def test_percent_and_blanks_reach_the_shell() -> None:
    assert line().text().splitlines()[1] == (
        "0,15,30,45 * * * * cd '/a b/100\\%' && python -m x nightly >>/log 2>&1"
    )


def test_what_cron_would_cut_off_is_refused() -> None:
    for folder in ("/" + "x" * 1000, "/a\nb"):
        with pytest.raises(ConfigError, match="cron does not take"):
            line(folder=folder).text()


@pytest.mark.parametrize("damage", [b"BEGIN", b"END"])
def test_a_damaged_block_is_not_guessed_at(damage: bytes) -> None:
    whole = replace_block(b"", "/c", [line()])
    broken = b"".join(row for row in whole.splitlines(keepends=True) if damage not in row)
    with pytest.raises(ConfigError, match="damaged"):
        replace_block(broken, "/c", [line()])


@pytest.mark.parametrize(
    ("cron", "minutes"), [("0 2 * * *", "0,15,30,45"), ("* * * * *", "*"), ("7 2 * * *", "7,22,37,52")]
)
def test_a_look_comes_at_every_minute_that_may_be_due(cron: str, minutes: str) -> None:
    assert minutes_to_look(parse_cron(cron)) == minutes


def test_a_crontab_that_cannot_be_read_is_never_written(tmp_path: Path) -> None:
    broken = tmp_path / "crontab"
    broken.write_text("#!/bin/sh\necho 'crontabs/root: Permission denied' >&2\nexit 1\n")
    broken.chmod(0o755)
    with pytest.raises(LlaraError, match="Permission denied"):
        read_crontab([str(broken)])
    with pytest.raises(LlaraError, match="stays as it was"):
        write_crontab([str(broken)], b"x\n")
    with pytest.raises(LlaraError, match="no such command"):
        read_crontab([str(tmp_path / "missing")])


@pytest.mark.parametrize(
    ("checked_hours_ago", "grace_hours", "due", "missed"),
    [
        (1, 12, None, 0),  # due at 01:30 UTC, 10.5 hours ago
        (11, 12, True, 0),
        (11, 10, None, 1),  # too late
        (24 * 3, 12, True, 2),  # the machine was off for days: one run makes up for all
        (24 * 3, 1, None, 3),
    ],
)
def test_a_look_at_the_clock(checked_hours_ago: int, grace_hours: int, due: bool | None, missed: int) -> None:
    found = look(
        parse_cron("30 2 * * *"), find_zone("Europe/Berlin"), NOW - timedelta(hours=checked_hours_ago), NOW,
        timedelta(hours=grace_hours),
    )  # fmt: skip
    assert found.due == (datetime(2026, 11, 24, 1, 30, tzinfo=timezone.utc) if due else None)
    assert len(found.missed) == missed


def test_looks_every_quarter_of_an_hour_start_every_run_once() -> None:
    """Also over both changes of the clocks, and late by seconds, as cron is."""
    cron, zone = parse_cron("30 2 * * *"), find_zone("Europe/Berlin")
    now = checked = datetime(2026, 1, 1, tzinfo=timezone.utc)
    runs = []
    while now < datetime(2027, 1, 1, tzinfo=timezone.utc):
        found = look(cron, zone, checked, now + timedelta(seconds=3), timedelta(minutes=5))
        assert not found.missed
        if found.due:
            runs.append(found.due)
            checked = now + timedelta(seconds=3)
        now += timedelta(minutes=15)
    assert len(runs) == 365
    assert len({one.astimezone(zone).date() for one in runs}) == 365


def test_a_state_is_kept_and_a_damaged_one_named(tmp_path: Path) -> None:
    file = tmp_path / "s.json"
    assert State.read(file, NOW) == State(NOW)
    state = State(NOW, NOW, NOW + timedelta(minutes=2), 1)
    state.write(file)
    assert State.read(file, NOW) == state
    assert State.read(file, NOW - timedelta(days=1)).checked == NOW - timedelta(days=1)  # the clock ran ahead
    for text in ("", "[]", '{"checked": "2026-01-01T00:00:00"}', "{}"):
        file.write_text(text)
        with pytest.raises(DataError, match="delete the file"):
            State.read(file, NOW)


def test_a_lock_is_held_once(tmp_path: Path) -> None:
    with only_one(tmp_path / "l") as first, only_one(tmp_path / "l") as second:
        assert first is not None
        assert second is None
    with only_one(tmp_path / "l") as third:
        assert third is not None


def test_records_are_written_only_where_they_differ(tmp_path: Path) -> None:
    store = RecordStore(tmp_path / "s")
    record = Record("nightly", ScheduleSettings.parse(SETTINGS, "s"), {"A": "1"})
    assert store.put(record)
    assert not store.put(record)
    assert store.all() == {"nightly": record}
    State(NOW).write(store.state_file("nightly"))
    store.pause("nightly", True)
    assert list(store.all()) == ["nightly"]
    store.remove("nightly")
    assert list((tmp_path / "s").iterdir()) == []


def test_a_plan_is_done_once() -> None:
    settings = ScheduleSettings.parse(SETTINGS, "s")
    right, old = stored_name("nightly", settings, b"a"), stored_name("nightly", settings, b"b")
    assert right != old
    made = plan({"nightly": right}, {}, {old: True, "somebody-else": True, "llara-gone-0123456789ab": True})
    assert made.create == {right: "nightly"}
    assert set(made.delete) == {old, "llara-gone-0123456789ab"}
    again = plan({"nightly": right}, {}, {right: False, "somebody-else": True})
    assert again == schedules.Plan({}, keep=(right,))  # one that was paused by command stays so
    assert plan({"nightly": right}, {"nightly": True}, {right: True}).pause == (right,)


def test_secrets_come_from_a_file_and_are_not_quoted(tmp_path: Path) -> None:
    file = tmp_path / "schedule.env"
    assert read_environment_file(file) == {}
    file.write_text("# note\n\nexport A='x=y'\nB=2\n")
    assert read_environment_file(file) == {"A": "x=y", "B": "2"}
    file.write_text("A=1\nhunter2\n")
    with pytest.raises(DataError, match=r"schedule\.env:2: expected NAME=VALUE") as raised:
        read_environment_file(file)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cron": "61 2 * * *"}, "not within"),
        ({"timezone": "Mars/Base"}, "IANA"),
        ({"pipline": "retraining"}, "did you mean 'pipeline'"),
        ({"grace_minutes": 0}, "greater than"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, change: dict[str, object], words: str) -> None:
    import yaml

    file = tmp_path / "nightly.yaml"
    file.write_text(yaml.safe_dump({**SETTINGS, **change}))
    with pytest.raises(ConfigError, match=words):
        schedules.read_wanted(tmp_path)
    file.write_text(yaml.safe_dump({key: SETTINGS[key] for key in ("config", "cron")}))
    with pytest.raises(ConfigError, match="timezone"):
        schedules.read_wanted(tmp_path)
    file.rename(tmp_path / "Nightly Run.yaml")
    with pytest.raises(ConfigError, match="named by its file"):
        schedules.read_wanted(tmp_path)


def test_a_missing_name_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'nightly'"):
        schedules.find("nightl", ["nightly"])
    assert Look(None).missed == ()
