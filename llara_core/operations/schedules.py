"""Schedules as files: what is wanted, what was applied, and the difference.

Wanted: ``configs/schedules/<name>.yaml``. Applied on this machine: ``$LLARA_LOCAL/schedules/<name>.json``,
from which alone the crontab is made, so that a file in the middle of being edited changes nothing until it
is applied. Source: issue 6, point 3.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from llara_core.errors import ConfigError, DataError
from llara_core.files import write_json
from llara_core.schedule_settings import ScheduleSettings, check_name
from llara_core.settings import nearest

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PREFIX = "llara-"
_STORED = re.compile(r"llara-(?P<name>[a-z0-9-]+)-(?P<digest>[0-9a-f]{12})")


@dataclass(frozen=True)
class Record:
    """A schedule as it was applied.

    Args:
        name: of the file, without suffix.
        settings: as they were then.
        environment: variables of its runs; no secrets.
    """

    name: str
    settings: ScheduleSettings
    environment: Mapping[str, str] = field(default_factory=dict)


def read_wanted(folder: Path) -> dict[str, ScheduleSettings]:
    """Every schedule of a folder, name to settings, by name.

    Raises:
        ConfigError: the folder is missing, or one of the files cannot be used.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; schedules are files <name>.yaml in it")
    for file in sorted(folder.glob("*.yml")):
        raise ConfigError(f"{file}: schedules end in .yaml; rename it")
    return {file.stem: ScheduleSettings.read(file) for file in sorted(folder.glob("*.yaml"))}


def find(name: str, known: Mapping[str, object] | list[str]) -> str:
    """The name, if it is known.

    Raises:
        ConfigError: it is not; names the nearest.
    """
    if name not in known:
        if not known:
            raise ConfigError("nothing is scheduled yet; `llara schedule apply` does it")
        raise ConfigError(f"no schedule is called {name!r}{nearest(name, sorted(known))}")
    return name


class RecordStore:
    """The applied schedules of this machine.

    Args:
        folder: ``$LLARA_LOCAL/schedules``; made when something is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def all(self) -> dict[str, Record]:
        """Every record, by name.

        Raises:
            DataError: one of them is damaged.
        """
        files = sorted(self.folder.glob("*.json")) if self.folder.is_dir() else []
        return {file.stem: self._read(file) for file in files if not file.name.endswith(".state.json")}

    def put(self, record: Record) -> bool:
        """Write a record where it differs; returns whether it did."""
        check_name(record.name, record.name)
        file = self.folder / f"{record.name}.json"
        values = {
            "settings": record.settings.model_dump(mode="json"),
            "environment": dict(sorted(record.environment.items())),
        }
        if file.exists():
            try:
                if json.loads(file.read_text(encoding="utf-8")) == values:
                    return False
            except ValueError:
                pass  # damaged: what is written now mends it
        write_json(file, values)
        file.chmod(0o600)
        return True

    def remove(self, name: str) -> None:
        """Forget a schedule, its state and its pause."""
        for file in (self.folder / f"{name}.json", self.state_file(name), self._pause_file(name)):
            file.unlink(missing_ok=True)

    def state_file(self, name: str) -> Path:
        """Where ``schedules_tick.State`` of a schedule lies."""
        return self.folder / f"{name}.state.json"

    def paused(self, name: str) -> bool:
        """Whether it was paused by command."""
        return self._pause_file(name).exists()

    def pause(self, name: str, paused: bool) -> None:
        """Pause it, or let it go on."""
        if paused:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._pause_file(name).touch()
        else:
            self._pause_file(name).unlink(missing_ok=True)

    def _pause_file(self, name: str) -> Path:
        return self.folder / f"{name}.paused"

    def _read(self, file: Path) -> Record:
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
            settings = ScheduleSettings.parse(values["settings"], file.stem)
            return Record(file.stem, settings, dict(values["environment"]))
        except (OSError, ValueError, KeyError, TypeError, ConfigError) as error:
            raise DataError(
                f"not the record of a schedule ({error}); delete it, then `llara schedule apply`", file=file
            ) from None


def stored_name(name: str, settings: ScheduleSettings, config: bytes) -> str:
    """Name of a schedule in ZenML: ``llara-<name>-<digest>``.

    The digest covers all that is wanted, the content of the run configuration too, because an orchestrator
    keeps what it was given. So the name alone tells from any machine whether what is there is right.
    """
    values = settings.model_dump(mode="json", exclude={"paused"})
    text = json.dumps(values, sort_keys=True).encode()
    digest = hashlib.sha256(text + bytes(1) + config).hexdigest()
    return f"{_PREFIX}{name}-{digest[:12]}"


def schedule_of(stored: str) -> str | None:
    """Name of our schedule behind a name in ZenML; None: it is somebody else's."""
    match = _STORED.fullmatch(stored)
    return match["name"] if match else None


@dataclass(frozen=True)
class Plan:
    """What must change in ZenML; all names are stored ones.

    Args:
        create: not there yet, to the name of the schedule.
        delete: of ours, and no longer wanted.
        pause: there, at work, and to be paused.
        resume: there, paused, and to go on.
        keep: right as they are.
    """

    create: Mapping[str, str]
    delete: tuple[str, ...] = ()
    pause: tuple[str, ...] = ()
    resume: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()


def plan(wanted: Mapping[str, str], paused: Mapping[str, bool], present: Mapping[str, bool]) -> Plan:
    """Compare.

    Args:
        wanted: name of each schedule, to its stored name.
        paused: name of each schedule that shall be paused or not; others stay as they are.
        present: stored names in ZenML, to whether they are active.

    Returns:
        the changes; applied, the next plan has none.
    """
    ours = {stored for stored in present if schedule_of(stored) is not None}
    names = {stored: name for name, stored in wanted.items()}
    there = sorted(ours & set(names))
    pause = tuple(one for one in there if present[one] and paused.get(names[one]) is True)
    resume = tuple(one for one in there if not present[one] and paused.get(names[one]) is False)
    return Plan(
        {stored: name for stored, name in sorted(names.items()) if stored not in ours},
        tuple(sorted(ours - set(names))),
        pause,
        resume,
        tuple(one for one in there if one not in {*pause, *resume}),
    )


def read_environment_file(file: Path) -> dict[str, str]:
    """``NAME=VALUE`` lines, as secrets of scheduled runs are kept; blank lines and ``#`` lines are left out.

    Raises:
        DataError: a line is neither; the message does not quote it, since it may be a secret.
    """
    values: dict[str, str] = {}
    if not file.exists():
        return values
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        words = line.strip().removeprefix("export ")
        if not words or words.startswith("#"):
            continue
        name, equals, value = words.partition("=")
        if not equals or not _VARIABLE.fullmatch(name):
            raise DataError("expected NAME=VALUE", file=file, row=number, rule="environment")
        if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
            value = value[1:-1]
        values[name] = value
    return values
