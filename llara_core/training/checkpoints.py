"""Checkpoints of an interrupted run: whole or absent, verified before use, and used by the same run only.

Issue 3, point 7. One run, one folder, named by a hash of everything its result depends on::

    FOLDER/run-1a2b3c4d5e6f/identity.json      what that is, readable
                            step-000120/       a whole checkpoint; its manifest was written last
                            step-000140.part/  being written, or cut off: never read
                            step-000100.broken1/  found spoilt, left for people to look at

A checkpoint is written into ``.part``, every file is forced to the disk, then the manifest (size and
SHA-256 of each file), then the folder gets its name. Nothing is ever pickled.
"""

from __future__ import annotations

import errno
import json
import logging
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llara_core.files import unwritable
from llara_core.training.run_folders import FINISHED, IDENTITY, run_folder
from llara_core.training.run_identity import differences, identity_hash, read_identity
from llara_core.training.sealing import fault, seal, sync, write_durably

logger = logging.getLogger(__name__)

_STEP = re.compile(r"step-(\d{6,})")


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint.

    Args:
        step: optimiser steps that were done.
        folder: where its files lie.
    """

    step: int
    folder: Path

    def values(self, name: str) -> Any:
        """The plain values of ``<name>.json``."""
        return json.loads((self.folder / f"{name}.json").read_text(encoding="utf-8"))


class Checkpoints:
    """The checkpoints of one run.

    With several processes only the main one may call what writes (all but ``at``).

    Args:
        folder: of this run's and perhaps other runs' checkpoints.
        identity: everything the result depends on, as JSON-able values; see ``run_identity``.
        keep: whole checkpoints that are kept, at least 1.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any], keep: int = 2) -> None:
        self.identity: dict[str, Any] = json.loads(json.dumps(identity))  # tuples become lists, as when read
        self.hash = identity_hash(self.identity)
        self.parent, self.folder = folder, run_folder(folder, self.hash)
        self.keep = keep

    def open(self) -> None:
        """Make the run's folder and clear what an interrupted save left in it.

        Tells (as a warning) when there are only checkpoints of another run, and in what it differs.

        Raises:
            DataError: the folder cannot be written.
        """
        try:
            if not self.folder.is_dir():
                self._warn_of_others()
            self.folder.mkdir(parents=True, exist_ok=True)
            for left in (*self.folder.glob("*.part"), *self.folder.glob("*.old")):
                shutil.rmtree(left, ignore_errors=True)
            (self.folder / FINISHED).unlink(missing_ok=True)
            write_durably(self.folder / IDENTITY, self.identity)
        except OSError as error:
            raise unwritable(self.folder, error) from None

    def latest(self) -> Checkpoint | None:
        """The newest checkpoint that is whole and unspoilt; one that is not is renamed and left aside."""
        for step in reversed(self.steps()):
            found = self.at(step)
            reason = fault(found.folder, step=step, identity=self.hash)
            if reason is None:
                return found
            logger.warning("the checkpoint %s is not used: %s", found.folder, reason)
            _set_aside(found.folder)
        return None

    def at(self, step: int) -> Checkpoint:
        """The checkpoint of a step that the main process has verified."""
        return Checkpoint(step, self.folder / _name(step))

    def steps(self) -> list[int]:
        """Steps of the checkpoints that stand there, oldest first; not yet verified."""
        names = (_STEP.fullmatch(one.name) for one in self.folder.glob("step-*") if one.is_dir())
        return sorted(int(name[1]) for name in names if name)

    def save(self, step: int, write: Callable[[Path], None]) -> bool:
        """Write a checkpoint; one that cannot be written leaves the last good one and stops nothing.

        If there is no room for it beside several older ones, all but the newest of those make place.

        Args:
            step: optimiser steps done.
            write: fills the folder it is given; may raise OSError or SafetensorError.

        Returns:
            Whether the checkpoint stands. If not, a warning has said why.
        """
        from safetensors import SafetensorError  # what a full disk looks like from within safetensors

        try:
            self.begin(step)
            write(self.part(step))
            self.commit(step)
        except (OSError, SafetensorError) as error:
            if not _lacks_room(error) or len(self.steps()) < 2:
                self.give_up(step, error)
                return False
            shutil.rmtree(self.part(step), ignore_errors=True)
            logger.warning("%s: no room for %d checkpoints; the newest one stays", self.folder, self.keep + 1)
            self._keep_newest(1)
            return self.save(step, write)
        finally:
            shutil.rmtree(self.part(step), ignore_errors=True)  # gone already when all went well
        return True

    def part(self, step: int) -> Path:
        """Where the checkpoint of a step is written before it counts."""
        return self.folder / f"{_name(step)}.part"

    def begin(self, step: int) -> None:
        """Make an empty ``part`` of the step.

        Raises:
            OSError: it cannot be made.
        """
        shutil.rmtree(self.part(step), ignore_errors=True)
        self.part(step).mkdir(parents=True)

    def commit(self, step: int) -> None:
        """Turn the filled ``part`` of a step into its checkpoint and remove those that are too many.

        Raises:
            OSError: the disk is full, or the folder has gone.
        """
        seal(self.part(step), step=step, identity=self.hash)
        target = self.at(step).folder
        if target.exists():
            _remove(target)
        self.part(step).rename(target)
        sync(self.folder)
        self._keep_newest(self.keep)

    def _keep_newest(self, number: int) -> None:
        for old in self.steps()[:-number]:
            _remove(self.at(old).folder)

    def give_up(self, step: int, error: Exception) -> None:
        """Say that a checkpoint could not be written, and remove what there is of it."""
        shutil.rmtree(self.part(step), ignore_errors=True)
        logger.warning(
            "no checkpoint of step %d in %s: %s; %s; training goes on and tries again at the next interval",
            step,
            self.folder,
            getattr(error, "strerror", None) or error,
            f"the last good one is of step {self.steps()[-1]}" if self.steps() else "there is none yet",
        )

    def finish(self) -> None:
        """Note that the run has ended well, so that ``discard`` may remove its checkpoints."""
        if self.folder.is_dir():
            (self.folder / FINISHED).touch()

    def _warn_of_others(self) -> None:
        """Say what is different about the newest other run of the same stage that has checkpoints here."""
        stage = self.identity.get("stage")
        others = sorted(self.parent.glob(f"run-*/{IDENTITY}"), key=lambda path: path.stat().st_mtime)
        for path in reversed(others):
            theirs = read_identity(path)
            if theirs.get("stage") == stage and any(path.parent.glob("step-*")):
                logger.warning(
                    "%s: the checkpoints in %s are of another run and are not used (%s); starting at step 0. "
                    "Remove the folder if you do not need them",
                    stage,
                    path.parent,
                    "; ".join(differences(self.identity, theirs)[:5]),
                )
                return


def _name(step: int) -> str:
    return f"step-{step:06d}"


def _lacks_room(error: Exception) -> bool:
    # safetensors hands on the system's error as text alone.
    codes = (errno.ENOSPC, errno.EDQUOT)
    return getattr(error, "errno", None) in codes or any(f"(os error {code})" in str(error) for code in codes)


def _remove(folder: Path) -> None:
    """Remove a checkpoint so that it never looks like one while half of it is gone."""
    old = folder.with_name(f"{folder.name}.old")
    try:
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
        shutil.rmtree(old)
    except OSError as error:
        logger.warning("%s cannot be removed: %s", folder, error)


def _set_aside(folder: Path) -> None:
    number = 1
    while (aside := folder.with_name(f"{folder.name}.broken{number}")).exists():
        number += 1
    try:
        folder.rename(aside)
    except OSError as error:
        logger.warning("%s cannot be set aside: %s", folder, error)
