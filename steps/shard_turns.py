"""How many shards run at once where they are threads of one process, and not pods of their own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from llara_core.environment import usable_cpus


@contextmanager
def turn() -> Iterator[None]:
    """Wait until this process has room for one more model: one on a GPU, else as many as threads allow.

    ZenML runs the shards of a local run as ten threads of one process, each of which loads the model. A pod
    runs one shard and never waits.
    """
    with _places():
        yield


@cache
def _places() -> threading.BoundedSemaphore:
    import torch

    if torch.cuda.is_available():
        return threading.BoundedSemaphore(1)
    return threading.BoundedSemaphore(max(1, usable_cpus() // torch.get_num_threads()))
