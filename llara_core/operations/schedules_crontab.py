"""The user's crontab: one marked block is ours, every other byte is the user's.

cron calls, llara decides. Which time zone a cron reads its lines in, and what it does when clocks change,
differ from cron to cron (Debian's takes the machine's zone and ignores ``CRON_TZ``). So a line of ours names
no hour: it starts a look at the clock at the minutes that are due in any zone, all offsets being quarters of
an hour, and that look, which knows zone and rules (``schedules_times``), starts the run when it is due. This
also finds what was missed while the machine was off. Source: issue 6, point 3.
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from llara_core.errors import ConfigError, LlaraError
from llara_core.operations.schedules_times import Cron

_LONGEST = 998  # bytes of a command that Debian's cron takes
_TIMEOUT = 60  # seconds
_QUARTERS = (0, 15, 30, 45)


@dataclass(frozen=True)
class Line:
    """One schedule in the block.

    Args:
        comment: what a reader of the crontab should know, one line.
        cron: when it is due, in its own zone.
        command: words of the look at the clock.
        log: file that gets all output.
        folder: where it starts.
        paused: the line stands as a comment.
    """

    comment: str
    cron: Cron
    command: Sequence[str]
    log: Path
    folder: Path
    paused: bool = False

    def text(self) -> str:
        """The lines of the crontab.

        Raises:
            ConfigError: cron would cut the line off.
        """
        words = f"cd {shlex.quote(str(self.folder))} && {shlex.join(self.command)}"
        words = f"{words} >>{shlex.quote(str(self.log))} 2>&1"
        if "\n" in words or "\r" in words or len(words.encode()) > _LONGEST:
            raise ConfigError(
                f"crontab: the command has a line break or more than {_LONGEST} bytes, which cron does not "
                f"take; use shorter paths for checkout and LLARA_LOCAL: {words[:200]}"
            )
        line = f"{minutes_to_look(self.cron)} * * * * " + words.replace("%", "\\%")
        return f"# {self.comment}\n{'# paused: ' if self.paused else ''}{line}\n"


def minutes_to_look(cron: Cron) -> str:
    """Minutes of the hour at which the schedule can be due, whatever zones it and the cron daemon have."""
    minutes = {(minute + quarter) % 60 for minute in cron.minutes for quarter in _QUARTERS}
    return "*" if len(minutes) == 60 else ",".join(map(str, sorted(minutes)))


def marks(owner: str) -> tuple[str, str]:
    """First and last line of the block of a checkout."""
    return f"# BEGIN llara {owner} (llara schedule apply writes this block)\n", f"# END llara {owner}\n"


def replace_block(crontab: bytes, owner: str, lines: Sequence[Line]) -> bytes:
    """The crontab with our block made anew; without lines the block goes.

    Args:
        crontab: as ``crontab -l`` gave it.
        owner: what tells this checkout's block from another's: its path.
        lines: what the block shall hold.

    Returns:
        the same bytes outside the block; a crontab that is right already comes back as it was.

    Raises:
        ConfigError: the marks of the block are damaged, so nobody knows what is the user's.
    """
    if "\n" in owner:
        raise ConfigError(f"the path of the checkout has a line break: {owner!r}; move it")
    begin, end = (mark.encode() for mark in marks(owner))
    rows = crontab.splitlines(keepends=True)
    begins = [number for number, row in enumerate(rows) if row.rstrip(b"\n") == begin.rstrip(b"\n")]
    ends = [number for number, row in enumerate(rows) if row.rstrip(b"\n") == end.rstrip(b"\n")]
    block = [begin, *(line.text().encode() for line in lines), end] if lines else []
    if not begins and not ends:
        if not block:
            return crontab
        whole = crontab if not crontab or crontab.endswith(b"\n") else crontab + b"\n"
        return whole + b"".join(block)
    if len(begins) != 1 or len(ends) != 1 or begins[0] > ends[0]:
        raise ConfigError(
            f"crontab: the marks of the block of {owner} are damaged ({len(begins)} BEGIN, {len(ends)} END); "
            "remove its lines with `crontab -e`, then run `llara schedule apply`"
        )
    return b"".join([*rows[: begins[0]], *block, *rows[ends[0] + 1 :]])


def read_crontab(command: Sequence[str], environment: Mapping[str, str] | None = None) -> bytes:
    """The user's crontab; empty where there is none yet.

    Raises:
        LlaraError: cron is not installed, or the crontab cannot be read: nothing may be written then.
    """
    done = _call([*command, "-l"], None, environment)
    if done.returncode == 0:
        return done.stdout
    if b"no crontab for" in done.stderr.lower():
        return b""
    raise LlaraError(_failed([*command, "-l"], done))


def write_crontab(
    command: Sequence[str], content: bytes, environment: Mapping[str, str] | None = None
) -> None:
    """Install a crontab; the ``crontab`` command checks it and replaces the old one in one step.

    Raises:
        LlaraError: it was refused; the old one stays.
    """
    done = _call([*command, "-"], content, environment)
    if done.returncode:
        raise LlaraError(_failed([*command, "-"], done))


def _call(
    command: Sequence[str], content: bytes | None, environment: Mapping[str, str] | None
) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(  # noqa: S603
            command,
            input=b"" if content is None else content,
            capture_output=True,
            check=False,
            timeout=_TIMEOUT,
            # The words of `crontab` must be known: "no crontab for".
            env={**(environment or {}), "LC_ALL": "C"} if environment is not None else None,
        )
    except FileNotFoundError:
        raise LlaraError(
            f"{command[0]}: no such command: a local stack is scheduled by cron; install it (Debian: "
            "apt install cron), or name a stack that schedules (stack: in the schedule's file)"
        ) from None
    except subprocess.TimeoutExpired:
        raise LlaraError(f"{shlex.join(command)}: no answer within {_TIMEOUT} s") from None


def _failed(command: Sequence[str], done: subprocess.CompletedProcess[bytes]) -> str:
    words = done.stderr.decode(errors="replace").strip() or "it said nothing"
    return f"{shlex.join(command)}: exit code {done.returncode}: {words}; the crontab stays as it was"
