"""A stage for several machines: what they need and what they give, in storage that all of them see.

Pods of one job have neither inputs nor outputs of their own. So a step before them writes a request, they
train by it, and a step after them takes the result::

    $LLARA_CHECKPOINTS/requests/<name>/request.json   what to do; `hash` covers all that the result is of
                                       inputs/        start, data, accelerate.yaml, sealed
                                       result/model/  the bundle; the seal beside it names the hash

A result belongs to one hash: it is found again by a request that is repeated, and never taken for another.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llara_core import __version__
from llara_core.errors import ConfigError, DataError
from llara_core.files import copy_or_link, unwritable, write_json
from llara_core.launch_settings import LaunchSettings
from llara_core.training.launch import Place, launch
from llara_core.training.sealing import fault, seal
from llara_core.training.stage_request import StageRequest

if TYPE_CHECKING:
    from llara_core.training.trainer import OnLog

VOLUME = "LLARA_CHECKPOINTS"
_REQUEST, _INPUTS, _RESULT, _MODEL, _ACCELERATE = (
    "request.json",
    "inputs",
    "result",
    "model",
    "accelerate.yaml",
)


def folder_of(name: str) -> Path:
    """Where a request and its result lie.

    Args:
        name: of the request, the same whenever the same is asked for.

    Raises:
        ConfigError: ``$LLARA_CHECKPOINTS`` is not set.
    """
    volume = os.environ.get(VOLUME)
    if not volume:
        raise ConfigError(
            f"{VOLUME} is not set; training on several machines needs a volume that all of them mount "
            "(ReadWriteMany): set it to where that is mounted, in the step before the pods and in the pods"
        )
    return Path(volume) / "requests" / name


@dataclass(frozen=True)
class NodeRequest:
    """A request that lies in its folder.

    Args:
        folder: of the request.
        facts: what ``request.json`` says: ``stage``, ``settings``, ``seed``, ``launch``, ``inputs`` (names to
            hashes of content), ``checkpoints`` (name of their folder on the volume), ``version``, ``hash``.
    """

    folder: Path
    facts: Mapping[str, Any]

    @classmethod
    def write(
        cls,
        folder: Path,
        asked: StageRequest,
        settings: LaunchSettings,
        hashes: Mapping[str, str],
    ) -> NodeRequest:
        """Lay down a request and copies of its inputs; where its result stands already, no inputs are needed.

        Args:
            folder: as ``folder_of`` says.
            asked: the stage; of ``checkpoints`` only the name counts, and ``output`` not at all.
            settings: machines, processes, and how they share the model.
            hashes: of the content of ``start`` and of each of the data.

        Raises:
            ConfigError: the file for accelerate is missing.
            DataError: the folder cannot be written.
        """
        sources = {"start": asked.start, **asked.data}
        if settings.accelerate is not None:
            sources[_ACCELERATE] = Path(settings.accelerate)
            if not sources[_ACCELERATE].is_file():
                raise ConfigError(f"launch.accelerate: {settings.accelerate}: no such file")
        facts: dict[str, Any] = {
            "version": __version__,
            "stage": asked.stage,
            "settings": dict(asked.settings),
            "seed": asked.seed,
            "launch": settings.model_dump(mode="json"),
            "inputs": dict(hashes),
            "checkpoints": asked.stage if asked.checkpoints is None else asked.checkpoints.name,
        }
        facts["hash"] = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        request = cls(folder, facts)
        try:
            if not request.is_done():
                request._lay_down(sources)
            write_json(folder / _REQUEST, facts)
        except OSError as error:
            raise unwritable(folder, error) from None
        return request

    @classmethod
    def read(cls, folder: Path) -> NodeRequest:
        """The request in a folder.

        Raises:
            DataError: there is none.
        """
        try:
            facts = json.loads((folder / _REQUEST).read_text(encoding="utf-8"))
            return cls(folder, {**facts, "hash": str(facts["hash"])})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"no request for training here ({type(error).__name__}); the step before the pods writes it "
                f"onto the volume of {VOLUME}: do both mount the same one?",
                file=folder / _REQUEST,
            ) from None

    @property
    def hash(self) -> str:
        """SHA-256 of all that the result depends on."""
        return str(self.facts["hash"])

    @property
    def settings(self) -> LaunchSettings:
        """Machines and processes; the file for accelerate is that of the inputs."""
        values = dict(self.facts["launch"])
        if values["accelerate"] is not None:
            values["accelerate"] = str(self.folder / _INPUTS / _ACCELERATE)
        return LaunchSettings.parse(values, "launch")

    def is_done(self) -> bool:
        """Whether a whole result of this very request stands in the folder."""
        return fault(self.folder / _RESULT, request=self.hash) is None

    def train(
        self,
        run: Callable[[StageRequest, OnLog | None], Path],
        place: Place,
        on_log: OnLog | None = None,
    ) -> None:
        """Do this machine's part; the first one seals the result.

        Args:
            run: does the stage in one process.
            place: which machine this is.
            on_log: as ``launch`` takes it.

        Raises:
            ConfigError: another number of machines than was asked for.
            DataError: an input is not what was laid down.
            LlaraError: whatever the stage raises.
        """
        if place.machines != self.settings.nodes:
            raise ConfigError(
                f"{place.machines} machines were started and the request is for {self.settings.nodes}; "
                "`pod_count` of the step and `launch.nodes` must be the same"
            )
        broken = fault(self.folder / _INPUTS, request=self.hash)
        if broken is not None:
            raise DataError(
                f"the inputs of the request cannot be used: {broken}; run the step again that writes them",
                file=self.folder / _INPUTS,
            )
        part = self.folder / f"{_RESULT}.part"
        launch(self._stage(part / _MODEL), run, self.settings, on_log, place)
        if place.number == 0:
            seal(part, request=self.hash)
            shutil.rmtree(self.folder / _RESULT, ignore_errors=True)
            part.rename(self.folder / _RESULT)

    def result(self) -> Path:
        """The bundle, every byte of it compared with the seal.

        Raises:
            DataError: there is none, it is spoilt, or it is another request's.
        """
        broken = fault(self.folder / _RESULT, request=self.hash)
        if broken is not None:
            raise DataError(
                f"no result of this request: {broken}; run the pipeline again, without its cache if need be",
                file=self.folder / _RESULT,
            )
        return self.folder / _RESULT / _MODEL

    def drop_inputs(self) -> None:
        """Remove the copies that nobody needs once there is a result."""
        shutil.rmtree(self.folder / _INPUTS, ignore_errors=True)

    def _stage(self, output: Path) -> StageRequest:
        inputs = self.folder / _INPUTS
        data = {name: inputs / name for name in self.facts["inputs"] if name != "start"}
        kept = self.folder.parent.parent / str(self.facts["checkpoints"])
        facts = self.facts
        return StageRequest(
            facts["stage"], facts["settings"], int(facts["seed"]), inputs / "start", data, output, kept
        )

    def _lay_down(self, sources: Mapping[str, Path]) -> None:
        if fault(self.folder / _INPUTS, request=self.hash) is None:
            return
        part = self.folder / f"{_INPUTS}.part"
        for left in (part, self.folder / _INPUTS):
            shutil.rmtree(left, ignore_errors=True)
        part.mkdir(parents=True)
        for name, source in sources.items():
            if source.is_dir():
                shutil.copytree(source, part / name, copy_function=copy_or_link)
            else:
                copy_or_link(str(source), str(part / name))
        seal(part, request=self.hash)
        part.rename(self.folder / _INPUTS)
