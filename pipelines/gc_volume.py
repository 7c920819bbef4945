"""What runs have left on volumes of a cluster, and what of it is old enough to go: ``llara gc --volume``.

It needs neither ZenML nor MLflow, so a pod that mounts the volumes and may do nothing else runs it by itself
(deploy/kubernetes/base/tidy.yaml). Source: issue 8, point 4.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from llara_core.errors import ConfigError
from llara_core.operations.retention import Item, Use, last_used, remove, too_young
from llara_core.operations.retention_files import still_used, volume_items
from llara_core.operations.retention_use import open_files
from llara_core.operations_settings import RetentionSettings


class VolumePlan:
    """Everything on volumes that could go, with the reason it stays, as of one moment.

    Args:
        settings: ``volume_days`` and ``keep``.
        volumes: where they are mounted.
        now: seconds since 1970.

    Raises:
        ConfigError: one of them is no folder.
    """

    on_server = False  # nothing of it is MLflow's

    def __init__(self, settings: RetentionSettings, volumes: Sequence[Path], now: float) -> None:
        for volume in volumes:
            if not volume.is_dir():
                raise ConfigError(
                    f"--volume {volume}: no such folder; name the one where the volume is mounted"
                )
        self._settings, self._volumes = settings, volumes
        self.use = self._opened()
        self.items = [item for one in volumes for item in volume_items(one, settings, self.use, now)]

    def delete(self, item: Item) -> str | None:
        """Delete one item if nobody has begun to use it; returns why it stays, or None.

        Raises:
            DataError: it cannot be deleted.
        """
        return remove(item, self._begun)

    def _begun(self, item: Item) -> str | None:
        """Who uses it by now; pods on other nodes are known by what they have written and read since."""
        words = still_used(item, self._opened())
        if words is None and item.path is not None and item.kind != "interrupted gc":
            words = too_young(last_used(item.path), time.time(), self._settings.volume_days)
        return words

    def _opened(self) -> Use:
        return Use({path: words for one in self._volumes for path, words in open_files(one).items()})
