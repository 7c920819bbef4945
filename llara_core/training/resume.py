"""A Trainer that goes on exactly where it was killed: what it saves, and how it takes that up again.

Issue 3, point 7. A checkpoint holds what the next step depends on and nothing that can be computed anew:

- ``weights.safetensors``: trained parameters by name (adapters alone under LoRA), in their own dtype;
- ``optimizer.safetensors``: AdamW's moments and step counts, ``<key>/<parameter>``;
- ``random-<rank>.safetensors``: the random states of each process;
- ``state.json``: learning rates, schedule, what has been measured; ``trainer_state.json``: the Trainer's own.

The order of the data is no state: it is planned from the seed, so step k's batch is item k. FSDP and
DeepSpeed hold shards that only they can put together: they write and read their own files in the same
folder, in place of the first two.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback

from llara_core.errors import TrainingError
from llara_core.training.checkpoints import Checkpoint, Checkpoints
from llara_core.training.distributed import all_texts, is_main, rank, run_on_main
from llara_core.training.sealing import MANIFEST, write_durably
from llara_core.training.training_state import (
    as_random_states,
    environment,
    load_optimizer,
    optimizer_tensors,
    random_states,
    restore_random,
    trainable,
)

logger = logging.getLogger(__name__)

TRAINER_STATE = "trainer_state.json"  # the name under which transformers looks for it


class ResumableTrainer(Trainer):
    """transformers' Trainer with our checkpoints in place of its own.

    Call ``resume_from`` and give its folder to ``train(resume_from_checkpoint=…)``; the rest are methods
    that ``Trainer`` calls. Subclasses give ``progress_state`` and ``restore_progress``.

    Args:
        stage: name for messages.
        checkpoints: of this run; None: nothing is saved.
        arguments: passed on to ``Trainer``.
    """

    def __init__(self, *, stage: str, checkpoints: Checkpoints | None = None, **arguments: Any) -> None:
        self.stage, self.checkpoints = stage, checkpoints
        self.last_checkpoint: Path | None = None  # the newest complete one, for messages
        super().__init__(**arguments)
        self.add_callback(_OwnIntervals())

    def progress_state(self) -> dict[str, Any]:
        """What this process has measured so far, JSON-able."""
        raise NotImplementedError

    def restore_progress(self, state: dict[str, Any], step: int) -> None:
        """Go on from ``progress_state()`` after ``step`` steps."""
        raise NotImplementedError

    def resume_from(self) -> Checkpoint | None:
        """The newest good checkpoint of this run, its progress restored already; None: start at step 0.

        Raises:
            DataError: the folder of the checkpoints cannot be written.
            TrainingError: another process cannot read the checkpoint.
        """
        if self.checkpoints is None:
            return None
        answer = run_on_main(self._newest)
        if not answer:
            return None
        step = int(answer)
        checkpoint = self.checkpoints.at(step)
        self._check_visible(checkpoint)
        state = checkpoint.values("state")
        first, mine = state["progress"][0], state["progress"][rank()]
        self.restore_progress({**first, **mine}, step)
        self.last_checkpoint = checkpoint.folder
        if is_main():
            logger.info("%s: resuming at step %d of %d", self.stage, step, self.args.max_steps)
            _warn_of_changes(state["environment"], environment(self.args.device))
        return checkpoint

    def _newest(self) -> str:
        checkpoints = cast(Checkpoints, self.checkpoints)
        checkpoints.open()
        found = checkpoints.latest()
        return "" if found is None else str(found.step)

    def _check_visible(self, checkpoint: Checkpoint) -> None:
        seen = all_texts("yes" if (checkpoint.folder / MANIFEST).is_file() else "no")
        if "no" in seen:
            raise TrainingError(
                f"{self.stage}: process {seen.index('no')} cannot read the checkpoint {checkpoint.folder}; "
                "all machines of a run need the same storage for checkpoints"
            )

    # What follows is called by Trainer.

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        step = self.state.global_step
        if self.checkpoints is None or step >= self.args.max_steps:  # the bundle comes next
            return
        processes = self._all_states()
        if self._holds_shards():
            saved = self._save_sharded(step, processes)
        else:
            saved = bool(run_on_main(lambda: "yes" if self._save_whole(step, processes) else ""))
        if saved:
            self.last_checkpoint = self.checkpoints.at(step).folder

    def _all_states(self) -> list[dict[str, Any]]:
        """Progress and random states of all processes; the curve, which is the same, of the main one."""
        progress = self.progress_state()
        if not is_main():
            progress.pop("curve", None)
        states = {name: values.tolist() for name, values in random_states(self.args.device).items()}
        everyone = all_texts(json.dumps({"progress": progress, "random": states}))
        return [json.loads(one) for one in everyone]

    def _holds_shards(self) -> bool:
        return bool(self.is_fsdp_enabled or self.is_deepspeed_enabled)

    def _save_whole(self, step: int, processes: list[dict[str, Any]]) -> bool:
        weights = trainable(cast(nn.Module, self.model))
        spoilt = [name for name, values in weights.items() if not bool(torch.isfinite(values).all())]
        if spoilt:  # the step that meets them will say more
            logger.warning("%s: no checkpoint of step %d: %s is not finite", self.stage, step, spoilt[0])
            return False
        return cast(Checkpoints, self.checkpoints).save(step, partial(self._write, processes, weights))

    def _write(self, processes: list[dict[str, Any]], weights: Mapping[str, Tensor], folder: Path) -> None:
        save_file(
            {name: values.detach().cpu().contiguous() for name, values in weights.items()},
            folder / "weights.safetensors",
        )
        save_file(optimizer_tensors(self.optimizer, weights), folder / "optimizer.safetensors")
        self._write_states(processes, folder)

    def _write_states(self, processes: list[dict[str, Any]], folder: Path) -> None:
        for number, process in enumerate(processes):
            save_file(as_random_states(process["random"]), folder / f"random-{number}.safetensors")
        state = {
            "progress": [process["progress"] for process in processes],
            "environment": environment(self.args.device),
        }
        if not self._holds_shards():
            state["rates"] = [group["lr"] for group in cast(Any, self.optimizer).param_groups]
            state["schedule"] = cast(Any, self.lr_scheduler).state_dict()
        write_durably(folder / "state.json", state)
        self.state.save_to_json(str(folder / TRAINER_STATE))

    def _save_sharded(self, step: int, processes: list[dict[str, Any]]) -> bool:
        """All processes write their shards into the folder that the main one then seals."""
        checkpoints = cast(Checkpoints, self.checkpoints)
        trouble = run_on_main(lambda: _trouble_of(lambda: checkpoints.begin(step)))
        if not trouble:
            here = _trouble_of(lambda: self._save_optimizer_and_scheduler(str(checkpoints.part(step))))
            trouble = next(filter(None, all_texts(here)), "")
        if not trouble:
            trouble = run_on_main(lambda: _trouble_of(lambda: self._seal_sharded(step, processes)))
        if trouble and is_main():
            checkpoints.give_up(step, OSError(trouble))
        return not trouble

    def _seal_sharded(self, step: int, processes: list[dict[str, Any]]) -> None:
        checkpoints = cast(Checkpoints, self.checkpoints)
        self._write_states(processes, checkpoints.part(step))
        checkpoints.commit(step)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if self._holds_shards():
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        saved = load_file(Path(resume_from_checkpoint) / "weights.safetensors")
        mine = trainable(cast(nn.Module, self.model))
        unlike = sorted(
            name
            for name in {*saved, *mine}
            if name not in saved or name not in mine or saved[name].shape != mine[name].shape
        )
        if unlike:
            raise TrainingError(
                f"{self.stage}: the checkpoint {resume_from_checkpoint} does not fit the model: "
                f"{len(unlike)} parameters differ, the first is {unlike[0]}; remove its folder to start over"
            )
        with torch.no_grad():
            for name, parameter in mine.items():
                parameter.copy_(saved[name])

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        if self._holds_shards():
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        state = Checkpoint(self.state.global_step, Path(checkpoint)).values("state")
        tensors = load_file(Path(checkpoint) / "optimizer.safetensors")
        load_optimizer(self.optimizer, tensors, trainable(cast(nn.Module, self.model)), state["rates"])
        cast(Any, self.lr_scheduler).load_state_dict(state["schedule"])

    def _load_rng_state(self, checkpoint: str | None) -> None:
        # Called when the first batch is there already: nothing draws between here and the forward pass.
        if checkpoint is not None:
            restore_random(load_file(Path(checkpoint) / f"random-{rank()}.safetensors"))


class _OwnIntervals(TrainerCallback):
    """The restored Trainer state brings the old run's intervals; those asked for now are used."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        state.logging_steps, state.save_steps = args.logging_steps, args.save_steps


def _trouble_of(work: Callable[[], object]) -> str:
    """What stood in the way of writing; empty if nothing did."""
    try:
        work()
    except (OSError, SafetensorError) as error:
        return str(error) or type(error).__name__
    return ""


def _warn_of_changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    changed = [f"{key} {now[key]} (then {then.get(key)})" for key in now if now[key] != then.get(key)]
    if changed:
        logger.warning(
            "the checkpoint was written under other circumstances: now %s; the result may differ from that "
            "of an uninterrupted run in its last bits",
            ", ".join(changed),
        )
