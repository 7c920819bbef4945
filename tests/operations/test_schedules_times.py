from __future__ import annotations

from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llara_core.errors import ConfigError
from llara_core.operations.schedules_times import (
    due_times,
    exceptional_times,
    find_zone,
    next_times,
    parse_cron,
)

BERLIN, UTC = ZoneInfo("Europe/Berlin"), ZoneInfo("UTC")


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=timezone.utc)  # type: ignore[misc,arg-type]


def due(cron: str, zone: str, after: datetime, until: datetime) -> list[str]:
    found = due_times(parse_cron(cron), ZoneInfo(zone), after, until)
    assert found == sorted(set(found))
    return [f"{one:%d %H:%M}" for one in found]


@pytest.mark.parametrize(
    ("cron", "zone", "day", "expected"),
    [
        # 29 March 2026: 02:00 becomes 03:00 in Berlin. 02:30 means 03:30 +02:00, which is 01:30 UTC.
        ("30 2 * * *", "Europe/Berlin", (2026, 3, 29), ["29 01:30"]),
        ("30 1 * * *", "Europe/Berlin", (2026, 3, 29), ["29 00:30"]),
        ("30 3 * * *", "Europe/Berlin", (2026, 3, 29), ["29 01:30"]),
        ("30 2,3 * * *", "Europe/Berlin", (2026, 3, 29), ["29 01:30"]),  # one instant, one run
        ("0 */2 29 * *", "Europe/Berlin", (2026, 3, 29), [f"29 {hour:02}:00" for hour in range(2, 22, 2)]),
        # 25 October 2026: 03:00 becomes 02:00. 02:30 exists twice and runs the first time, at 00:30 UTC.
        ("30 2 * * *", "Europe/Berlin", (2026, 10, 25), ["25 00:30"]),
        ("30 * 25 * *", "Europe/Berlin", (2026, 10, 25), [f"{25} {hour:02}:30" for hour in range(0, 23)]),
        # Lord Howe's clocks jump by half an hour: 02:15 of 4 October 2026 means 02:45 +11:00.
        ("15 2 * * *", "Australia/Lord_Howe", (2026, 10, 3), ["03 15:45"]),
        ("30 2 * * *", "Asia/Kathmandu", (2026, 3, 29), ["29 20:45"]),
        ("30 2 * * *", "UTC", (2026, 3, 29), ["29 02:30"]),
    ],
)
def test_daylight_saving(cron: str, zone: str, day: tuple[int, int, int], expected: list[str]) -> None:
    start = utc(*day)
    assert due(cron, zone, start - timedelta(minutes=1), start + timedelta(hours=22, minutes=59)) == expected


def test_a_whole_day_that_does_not_exist_is_not_lost() -> None:
    """Samoa left out 30 December 2011; its noon means the noon a day later by the clock."""
    assert due("0 12 30 12 *", "Pacific/Apia", utc(2011, 12, 28), utc(2012, 1, 2)) == ["30 22:00"]


@pytest.mark.parametrize(
    ("cron", "after", "expected"),
    [
        ("0 6 * * mon-fri", (2026, 11, 27, 12), "2026-11-30 06:00"),
        ("0 6 * * 7", (2026, 11, 27, 12), "2026-11-29 06:00"),
        ("0 6 * * 5-7", (2026, 11, 29, 12), "2026-12-04 06:00"),
        ("0 0 29 feb *", (2096, 3, 1), "2104-02-29 00:00"),  # 2100 is no leap year
        ("*/20 9-10/1 1 * *", (2026, 11, 1, 9, 5), "2026-11-01 09:20"),
        ("@weekly", (2026, 11, 24), "2026-11-29 00:00"),
        ("5/10 * * * *", (2026, 11, 24, 3, 16), "2026-11-24 03:25"),
    ],
)
def test_fields(cron: str, after: tuple[int, ...], expected: str) -> None:
    assert f"{next_times(parse_cron(cron), UTC, utc(*after))[0]:%Y-%m-%d %H:%M}" == expected


@pytest.mark.parametrize(
    ("cron", "words"),
    [
        ("0 6 * *", "five fields"),
        ("60 6 * * *", "'60' is not within 0-59"),
        ("0 6-3 * * *", "not within"),
        ("*/0 6 * * *", "not within"),
        ("0 6 30 2 *", "no such day"),
        ("0 6 1 * mon", "not both"),
        ("0 6 * * freitag", "no number"),
        ("0 6 * * -1", "no number"),
        ("\u0663 6 * * *", "no number"),
        ("@reboot", "five fields"),
    ],
)
def test_what_is_no_cron_expression(cron: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words.replace("*", r"\*")):
        parse_cron(cron)


def test_a_zone_is_named_by_its_iana_name() -> None:
    assert find_zone("Europe/Berlin") is not None
    with pytest.raises(ConfigError, match="did you mean 'Europe/Berlin'"):
        find_zone("Europe/Berln")
    with pytest.raises(ConfigError, match="IANA"):
        find_zone("../etc/passwd")


def test_apply_can_tell_what_the_clocks_will_do() -> None:
    words = exceptional_times(parse_cron("30 2 * * *"), BERLIN, utc(2026, 1, 1))
    assert words == ["2026-03-29 02:30 does not exist, and means 03:30", "2026-10-25 02:30 exists twice"]
    assert exceptional_times(parse_cron("30 * * * *"), BERLIN, utc(2026, 1, 1)) == []
    assert exceptional_times(parse_cron("30 2 * * *"), UTC, utc(2026, 1, 1)) == []


ZONES = (
    "Europe/Berlin",
    "America/St_Johns",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "UTC",
    "Africa/Casablanca",
)


@settings(max_examples=60)
@given(
    st.sampled_from(ZONES),
    st.integers(0, 59),
    st.integers(0, 23),
    st.integers(0, 365 * 3),
)
def test_a_daily_schedule_runs_once_for_every_date(zone: str, minute: int, hour: int, offset: int) -> None:
    """Thirty dates give thirty runs, whatever the clocks do; windows put together lose and repeat nothing."""
    cron, place = parse_cron(f"{minute} {hour} * * *"), ZoneInfo(zone)
    begin = datetime(2025, 1, 1, 12 if hour < 12 else 0, tzinfo=place) + timedelta(days=offset)
    start = begin.replace(hour=(hour + 12) % 24).astimezone(timezone.utc)
    end = (begin.replace(hour=(hour + 12) % 24) + timedelta(days=30)).astimezone(timezone.utc)
    whole = due_times(cron, place, start, end)
    assert len(whole) == 30
    middle = start + (end - start) / 3
    assert due_times(cron, place, start, middle) + due_times(cron, place, middle, end) == whole
    assert next_times(cron, place, start, 30) == whole
