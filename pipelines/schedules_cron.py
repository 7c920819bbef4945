"""Schedules of stacks that cannot schedule: by the machine's own cron."""

from __future__ import annotations

import logging
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from llara_core.errors import ConfigError, LlaraError
from llara_core.operations import alerts, logs, schedules
from llara_core.operations.schedules import Record, RecordStore
from llara_core.operations.schedules_crontab import Line, read_crontab, replace_block, write_crontab
from llara_core.operations.schedules_tick import Look, State, look, only_one, utc_now
from llara_core.operations.schedules_times import exceptional_times, next_times, parse_cron
from llara_core.schedule_settings import ScheduleSettings
from pipelines import environment

logger = logging.getLogger(__name__)

CRONTAB = "LLARA_CRONTAB"  # environment variable: the command, e.g. `crontab -u llara`
ENVIRONMENT_FILE = "schedule.env"  # in the local folder: secrets of scheduled runs, NAME=VALUE lines
_LOG_BYTES = 5_000_000  # a longer log begins anew; the one before stays beside it
_SECRET = re.compile(r"SECRET|TOKEN|PASSWORD|WEBHOOK|_KEY(?:_|$)")
_CREDENTIALS = re.compile(r"://[^/\s]*@")
_KEPT = ("LLARA_", "ZENML_", "MLFLOW_")


def store() -> RecordStore:
    """Records of the schedules that cron keeps for this checkout."""
    return RecordStore(environment.local_folder() / "schedules")


def check_config(name: str, settings: ScheduleSettings) -> None:
    """Refuse a schedule whose run configuration is not there.

    Raises:
        ConfigError: so it is.
    """
    if not (environment.REPOSITORY / settings.config).is_file():
        raise ConfigError(
            f"schedule {name}: config: no such file: {environment.REPOSITORY / settings.config}"
        )


def apply(wanted: Mapping[str, ScheduleSettings]) -> list[str]:
    """Make records and crontab what is wanted; returns what changed, in words."""
    records, changes = store(), []
    before = records.all()
    for name, settings in wanted.items():
        if records.put(Record(name, settings, variables())):
            changes.append(f"{name}: {'updated' if name in before else 'created'}")
        old = before[name].settings if name in before else None
        if old is None or (old.cron, old.timezone) != (settings.cron, settings.timezone):
            _begin(records, name)
    for name in sorted(set(before) - set(wanted)):
        records.remove(name)
        changes.append(f"{name}: removed, its file is gone")
    try:
        if _write(records) and not changes:
            changes.append("the crontab was mended")
    except LlaraError as error:
        if wanted or before:
            raise
        # Nothing is cron's to do here, and a machine without cron is right.
        logger.debug("The crontab was not looked at: %s", error)
    return changes


def delete(name: str) -> None:
    """Remove one schedule from records and crontab."""
    records = store()
    schedules.find(name, records.all())
    records.remove(name)
    _write(records)


def turn(name: str, paused: bool) -> bool:
    """Pause or resume; returns whether that changed anything.

    Raises:
        ConfigError: there is no such schedule, or its file says that it is paused.
    """
    records = store()
    record = records.all()[schedules.find(name, records.all())]
    if not paused and record.settings.paused:
        raise ConfigError(f"{name}: its file says `paused: true`; change it, then `llara schedule apply`")
    changed = records.paused(name) != paused
    records.pause(name, paused)
    if changed and not paused:
        _begin(records, name)
    return _write(records) or changed


def rows(wanted: Mapping[str, ScheduleSettings]) -> list[dict[str, Any]]:
    """What `list` shows of each schedule, wanted or applied."""
    records, now = store(), utc_now()
    applied = records.all()
    if not wanted and not applied:
        return []
    in_place = replace_block(_crontab(), str(environment.REPOSITORY), _lines(records)) == _crontab()
    found = []
    for name in sorted({*wanted, *applied}):
        record = applied.get(name)
        settings = record.settings if record else wanted[name]
        resting = settings.paused or records.paused(name)
        state = "paused" if resting else "active"
        if record is None:
            state = "not applied"
        elif name not in wanted:
            state = "its file is gone; `llara schedule apply` removes it"
        elif wanted[name] != settings or not in_place:
            state += ", differs from its file or the crontab; `llara schedule apply` mends that"
        upcoming = next_times(parse_cron(settings.cron), settings.zone, now) if record and not resting else []
        last = State.read(records.state_file(name), now) if record else State(now)
        found.append(
            {
                "name": name, "state": state, "cron": settings.cron, "timezone": settings.timezone,
                "by": "cron",
                "next": in_words(upcoming[0], settings) if upcoming else None,
                "last": _last(last, settings), "command": shlex.join(command(settings)[2:]),
            }
        )  # fmt: skip
    return found


def warnings(name: str, settings: ScheduleSettings, remote: bool) -> list[str]:
    """What clocks that change will do to a schedule in the coming year."""
    words = exceptional_times(parse_cron(settings.cron), settings.zone, utc_now())
    if not words:
        return []
    if remote:
        words = [f"{one.split(' does not exist')[0]} does not exist, and is left out by Kubernetes"
                 if "does not exist" in one else f"{one}: Kubernetes decides" for one in words]  # fmt: skip
    else:
        words = [f"{one}; runs once" for one in words]
    return [f"{name}: {settings.timezone} changes its clocks: {'; '.join(words)}"]


def in_words(instant: datetime, settings: ScheduleSettings) -> str:
    """An instant in the schedule's zone, with its offset, and in UTC."""
    there = instant.astimezone(settings.zone)
    return f"{there:%Y-%m-%d %H:%M %z} ({instant:%Y-%m-%d %H:%M} UTC)"


def command(settings: ScheduleSettings) -> list[str]:
    """What a run starts."""
    return [
        sys.executable, "-m", "pipelines", settings.pipeline, "--config", str(settings.config),
        "--stack", settings.stack,
    ]  # fmt: skip


def tick(name: str, local: Path) -> int:
    """Look at the clock and run what is due; returns the exit code of the run, 0 where none was due."""
    os.environ["LLARA_LOCAL"] = str(local)
    records = store()
    with only_one(local / "locks" / f"schedule-{name}.lock") as held:
        if held is None:
            return 0  # the run before is at work; what is due meanwhile is found by a later look
        record = records.all()[schedules.find(name, records.all())]
        settings, now = record.settings, utc_now()
        if settings.paused or records.paused(name):
            return 0
        state = State.read(records.state_file(name), now)
        found = look(parse_cron(settings.cron), settings.zone, state.checked, now, settings.grace)
        if found.due is None and not found.missed:
            return 0
        State(now, now if found.due else state.started, state.ended, state.code).write(
            records.state_file(name)
        )
        values = {**record.environment, **schedules.read_environment_file(local / ENVIRONMENT_FILE)}
        os.environ.update(values)
        _tell_missed(name, settings, found)
        return _run(records, name, settings, found.due, held) if found.due else 0


def _run(records: RecordStore, name: str, settings: ScheduleSettings, due: datetime, held: int) -> int:
    log, started, clock = log_file(name), utc_now(), time.monotonic()
    if log.exists() and log.stat().st_size > _LOG_BYTES:
        log.with_suffix(".log.1").write_bytes(log.read_bytes())
        os.truncate(log, 0)  # cron's shell has it open for appending, so it goes on at the start
    logs.say(f"llara: schedule {name}: due {in_words(due, settings)}, started {started:%H:%M:%S} UTC", "INFO")
    done = subprocess.run(  # noqa: S603
        command(settings), cwd=environment.REPOSITORY, check=False, pass_fds=(held,), stdin=subprocess.DEVNULL
    )
    ended = utc_now()
    State(started, started, ended, done.returncode).write(records.state_file(name))
    seconds = time.monotonic() - clock
    logs.say(f"llara: schedule {name}: ended with exit code {done.returncode} after {seconds:.0f} s", "INFO")
    return done.returncode


def _tell_missed(name: str, settings: ScheduleSettings, found: Look) -> None:
    if not found.missed:
        return
    times = ", ".join(in_words(one, settings) for one in found.missed[-5:])
    instead = "one run now makes up for all" if found.due else "the next one sees the same changes"
    text = f"{len(found.missed)} not started in time ({times}); {instead}"
    logs.say(f"llara: schedule {name}: {text}", "WARNING")
    address = alerts.webhook()
    if address is None:
        return
    try:
        alerts.post(alerts.Alert("schedule missed", f"schedule {name} missed", text, "warning"), address)
    except LlaraError as error:
        logs.say(f"llara: the alarm was not delivered: {error}", "ERROR")


def log_file(name: str) -> Path:
    """What cron and the runs of a schedule say."""
    return environment.local_folder() / "logs" / f"schedule-{name}.log"


def variables() -> dict[str, str]:
    """Variables of scheduled runs: those of this checkout, and what the caller has set of ours; no secrets.

    Raises:
        ConfigError: an address holds credentials, which belong into the environment file.
    """
    ours = {key: value for key, value in os.environ.items() if key.startswith(_KEPT)}
    values = {**environment.variables(), **ours}
    kept = {key: value for key, value in values.items() if not _SECRET.search(key) and key != CRONTAB}
    for key, value in kept.items():
        if _CREDENTIALS.search(value):
            file = environment.local_folder() / ENVIRONMENT_FILE
            raise ConfigError(
                f"${key} holds credentials, which no record may keep: unset it here, and write it to {file}"
            )
    kept["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), "/usr/local/bin:/usr/bin:/bin"])
    return kept


def _begin(records: RecordStore, name: str) -> None:
    """Forget what was due until now; how the last run ended stays known."""
    now = utc_now()
    last = State.read(records.state_file(name), now)
    State(now, last.started, last.ended, last.code).write(records.state_file(name))


def _write(records: RecordStore) -> bool:
    """Make the crontab what the records say; returns whether it had to change."""
    before = _crontab()
    after = replace_block(before, str(environment.REPOSITORY), _lines(records))
    if after == before:
        return False
    (environment.local_folder() / "logs").mkdir(parents=True, exist_ok=True)
    write_crontab(_crontab_command(), after)
    if _crontab() != after:
        raise LlaraError(
            "the crontab was changed by somebody else at the same time; look at `crontab -l`, try again"
        )
    return True


def _lines(records: RecordStore) -> list[Line]:
    local, lines = environment.local_folder(), []
    for name, record in records.all().items():
        settings = record.settings
        words = [sys.executable, "-m", "pipelines.schedules", "tick", name, "--local", str(local)]
        comment = f"{name}: {settings.cron} {settings.timezone}: {settings.pipeline} {settings.config}"
        resting = settings.paused or records.paused(name)
        cron = parse_cron(settings.cron)
        lines.append(Line(comment, cron, words, log_file(name), environment.REPOSITORY, resting))
    return lines


def _crontab_command() -> list[str]:
    return shlex.split(os.environ.get(CRONTAB) or "crontab")


def _crontab() -> bytes:
    return read_crontab(_crontab_command())


def _last(state: State, settings: ScheduleSettings) -> str | None:
    if state.started is None:
        return None
    began = in_words(state.started, settings)
    if state.ended is None or state.ended < state.started:
        return f"{began}, under way or killed"
    return f"{began}, exit code {state.code}, {(state.ended - state.started).total_seconds():.0f} s"
