"""A run of a training stage as data, so that another process can do it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc

from llara_core.errors import DataError
from llara_core.files import write_json


@dataclass(frozen=True)
class StageRequest:
    """Everything that a stage is told.

    Args:
        stage: ``adapt`` or ``finetune``; ``launched.STAGES`` says which module does it.
        settings: of the stage, as plain values.
        seed: of the stage.
        start: bundle to start from.
        data: what is trained on, by name: ``rows`` (an Arrow file) to adapt, ``collection`` (a folder that
            ``Collection.save`` wrote) and ``negatives`` (an Arrow file) to fine-tune.
        output: folder of the new bundle.
        checkpoints: folder from which an interrupted run goes on; None: it starts over.
    """

    stage: str
    settings: Mapping[str, Any]
    seed: int
    start: Path
    data: Mapping[str, Path]
    output: Path
    checkpoints: Path | None = None

    def write(self, file: Path) -> None:
        """Write it as JSON, its paths absolute.

        Raises:
            DataError: the file cannot be written.
        """
        paths = {
            "start": str(self.start.absolute()),
            "data": {name: str(path.absolute()) for name, path in self.data.items()},
            "output": str(self.output.absolute()),
            "checkpoints": None if self.checkpoints is None else str(self.checkpoints.absolute()),
        }
        write_json(file, {**asdict(self), "settings": dict(self.settings), **paths})

    @classmethod
    def read(cls, file: Path) -> StageRequest:
        """Read what ``write`` wrote.

        Raises:
            DataError: the file is missing or damaged.
        """
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
            kept = values["checkpoints"]
            return cls(
                values["stage"], values["settings"], int(values["seed"]), Path(values["start"]),
                {name: Path(path) for name, path in values["data"].items()}, Path(values["output"]),
                None if kept is None else Path(kept),
            )  # fmt: skip
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"not a request for training ({type(error).__name__}: {error}); run the step that writes it",
                file=file,
                rule="readable",
            ) from None


def open_table(file: Path) -> pa.Table:
    """A table that the request names, memory-mapped.

    Raises:
        DataError: the file is missing, or is no Arrow file.
    """
    try:
        return pa.ipc.open_file(pa.memory_map(str(file))).read_all()
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"not an Arrow file that can be read: {error}", file=file, rule="readable") from None
