"""When a schedule is due: cron expressions read in a named time zone, daylight saving included.

The rules, which every cron has its own of, are these:

* A time that does not exist (02:30 when clocks go from 02:00 to 03:00) runs as much later as the clocks
  jump: at 03:30, the instant that RFC 5545 gives it. It runs once, and never not at all.
* A time that exists twice (02:30 when clocks go back from 03:00 to 02:00) runs once, the first time.
* Where the hour is ``*`` or ``*/n`` the schedule means intervals, not a time of day: times that do not exist
  are left out, and those that exist twice run twice, so that the gaps between runs stay even.

Source: issue 6, point 3.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo, available_timezones

from llara_core.errors import ConfigError
from llara_core.settings import nearest

_DAY = timedelta(days=1)
_SEARCH = 9 * 366  # days: 29 February can be eight years away (1896 to 1904, 2096 to 2104)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_SHORT = {
    "@hourly": "0 * * * *", "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *", "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *",
}  # fmt: skip


@dataclass(frozen=True)
class Cron:
    """A cron expression.

    Args:
        text: as five fields.
        minutes: 0 to 59.
        hours: 0 to 23.
        days: of the month, 1 to 31.
        months: 1 to 12.
        weekdays: 0 (Sunday) to 6.
        intervals: the hour is ``*`` or ``*/n``; see the rules above.
    """

    text: str
    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    intervals: bool

    def on(self, day: date) -> bool:
        """Whether any of its times lies on the day."""
        return day.month in self.months and day.day in self.days and day.isoweekday() % 7 in self.weekdays


def parse_cron(text: str) -> Cron:
    """Read five fields, or one of ``@hourly @daily @weekly @monthly @yearly``.

    Raises:
        ConfigError: it is no cron expression, restricts both day of month and day of week (crons disagree
            about what that means), or names a day that never comes.
    """
    written = _SHORT.get(text.strip().lower(), text)
    fields = written.split()
    if len(fields) != 5:
        raise ConfigError(
            f"cron {text!r}: expected five fields, minute hour day-of-month month day-of-week (quoted in "
            f"YAML), got {len(fields)}"
        )
    weekdays = _field(fields[4], 0, 7, _WEEKDAYS, text)
    cron = Cron(
        " ".join(fields),
        _field(fields[0], 0, 59, (), text),
        _field(fields[1], 0, 23, (), text),
        _field(fields[2], 1, 31, (), text),
        _field(fields[3], 1, 12, _MONTHS, text),
        frozenset(day % 7 for day in weekdays),
        fields[1].startswith("*"),
    )
    if len(cron.days) < 31 and len(cron.weekdays) < 7:
        raise ConfigError(
            f"cron {text!r}: restrict the day of the month or the day of the week, not both: some crons run "
            "on days that match either, others on days that match both; write two schedules"
        )
    start = date(2000, 1, 1)
    if not any(cron.on(start + number * _DAY) for number in range(_SEARCH)):
        raise ConfigError(f"cron {text!r}: no such day ever comes")
    return cron


def find_zone(name: str) -> ZoneInfo:
    """The time zone of an IANA name.

    Raises:
        ConfigError: there is no such zone on this machine.
    """
    known = available_timezones()
    if not known:
        raise ConfigError("this machine has no time zones: install tzdata (the system's package, or pip's)")
    if name not in known:
        close = nearest(name, sorted(known))
        hint = close if "did you mean" in close else ""
        raise ConfigError(f"no time zone is called {name!r}; expected an IANA name, like Europe/Berlin{hint}")
    return ZoneInfo(name)


def due_times(cron: Cron, zone: ZoneInfo, after: datetime, until: datetime) -> list[datetime]:
    """Instants at which the schedule is due in ``(after, until]``, in UTC, in order, each once.

    Args:
        cron: the schedule.
        zone: in which its fields are read.
        after: aware.
        until: aware.
    """
    found: set[datetime] = set()
    # A day more at both ends: a time that does not exist may move past midnight, and offsets reach 14 hours.
    day, last = after.astimezone(zone).date() - _DAY, until.astimezone(zone).date() + _DAY
    while day <= last:
        if cron.on(day):
            found.update(one for one in _instants(cron, zone, day) if after < one <= until)
        day += _DAY
    return sorted(found)


def next_times(cron: Cron, zone: ZoneInfo, after: datetime, count: int = 1) -> list[datetime]:
    """The next instants after a moment, in UTC; fewer only where fewer lie within nine years."""
    found: set[datetime] = set()
    first = after.astimezone(zone).date() - _DAY
    for number in range(_SEARCH):
        day = first + number * _DAY
        if cron.on(day):
            found.update(one for one in _instants(cron, zone, day) if one > after)
        # A time that was moved past midnight may come after one of the next day: one day more is looked at.
        if len(found) >= count and day > sorted(found)[count - 1].astimezone(zone).date() + _DAY:
            break
    return sorted(found)[:count]


def exceptional_times(cron: Cron, zone: ZoneInfo, after: datetime, days: int = 366) -> list[str]:
    """Wall-clock times of the schedule in the coming days that do not exist, or exist twice, in words."""
    if cron.intervals:
        return []
    words, first = [], after.astimezone(zone).date()
    for number in range(days):
        day = first + number * _DAY
        for wall in _walls(cron, day) if cron.on(day) else ():
            early, late = wall.replace(tzinfo=zone, fold=0), wall.replace(tzinfo=zone, fold=1)
            if early.utcoffset() == late.utcoffset():
                continue
            moved = early.astimezone(timezone.utc).astimezone(zone).replace(tzinfo=None)
            what = "exists twice" if moved == wall else f"does not exist, and means {moved:%H:%M}"
            words.append(f"{wall:%Y-%m-%d %H:%M} {what}")
    return words


def _instants(cron: Cron, zone: ZoneInfo, day: date) -> Iterator[datetime]:
    for wall in _walls(cron, day):
        first = wall.replace(tzinfo=zone, fold=0).astimezone(timezone.utc)
        exists = first.astimezone(zone).replace(tzinfo=None) == wall
        if exists or not cron.intervals:
            # Python reads a time that does not exist with the offset of before: later by the clocks' jump.
            yield first
        if exists and cron.intervals:
            yield wall.replace(tzinfo=zone, fold=1).astimezone(timezone.utc)


def _walls(cron: Cron, day: date) -> Iterator[datetime]:
    for hour in sorted(cron.hours):
        for minute in sorted(cron.minutes):
            yield datetime(day.year, day.month, day.day, hour, minute)


def _field(written: str, low: int, high: int, names: tuple[str, ...], text: str) -> frozenset[int]:
    found: set[int] = set()
    for part in written.lower().split(","):
        span, has_step, step = part.partition("/")
        first, has_end, end = span.partition("-")
        if span == "*":
            start, stop = low, min(high, low + 6) if names is _WEEKDAYS else high
        else:
            start = _number(first, low, names, text)
            stop = _number(end, low, names, text) if has_end else high if has_step else start
        width = _number(step, 0, (), text) if has_step else 1
        if not low <= start <= stop <= high or width < 1:
            raise ConfigError(f"cron {text!r}: {part!r} is not within {low}-{high}")
        found.update(range(start, stop + 1, width))
    return frozenset(found)


def _number(word: str, low: int, names: tuple[str, ...], text: str) -> int:
    if word in names:
        return names.index(word) + low
    if not (word.isascii() and word.isdigit()):
        raise ConfigError(f"cron {text!r}: {word!r} is no number{' and no name' if names else ''}")
    return int(word)
