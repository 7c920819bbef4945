"""Faults of the machine and its services, in words: a full disk, an MLflow that does not answer.

What was finished is kept in every such case, so the advice is always the same command.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from urllib.parse import urlsplit

from pipelines import environment

_FULL = (errno.ENOSPC, errno.EDQUOT)
_FULL_WORDS = ("database or disk is full", "no space left on device", "disk quota exceeded")
_AWAY = ("ConnectionError", "ConnectTimeout", "ReadTimeout", "NewConnectionError", "MaxRetryError")
_AGAIN = "then run the same command: finished steps are kept, training goes on from its last checkpoint"


def of_the_surroundings(chain: Sequence[BaseException]) -> str | None:
    """What a person should do about an error that the program could not help; None: it is none of these.

    Args:
        chain: the error and its causes.
    """
    if any(_is_full(one) for one in chain):
        return (
            f"the disk is full; make room below {environment.local_folder()} (`llara gc` says what may go), "
            f"{_AGAIN}"
        )
    address = os.environ.get("MLFLOW_TRACKING_URI", "")
    if address.startswith("http") and any(_is_away(one) for one in chain):
        host = urlsplit(address).netloc.rsplit("@", 1)[-1]
        return f"MLflow at {host} does not answer; bring it back, {_AGAIN}"
    return None


def _is_full(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in _FULL:
        return True
    said = str(error).lower()
    return any(words in said for words in _FULL_WORDS)


def _is_away(error: BaseException) -> bool:
    names = {type(error).__name__, *(type(one).__name__ for one in error.args if isinstance(one, Exception))}
    if names & set(_AWAY):
        return True
    return type(error).__name__ == "MlflowException" and "API request to" in str(error)
