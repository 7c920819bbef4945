"""Recorded values of the published code (``golden/README.md``), and its batches as our objectives take them.

Source: issue 3, points 3 and 8.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from llara_core.errors import DataError
from llara_core.model.backbone import decoder_of
from llara_core.model.bundle import quiet_transformers
from llara_core.model.encoding import pad_rows
from llara_core.model.joint_pass import JointLayout, check_joint_support, joint_layout
from llara_core.model.loading import load_weights
from llara_core.training.adaptation_targets import TargetRule

GOLDEN = Path(__file__).parent / "golden"


@dataclass(frozen=True)
class Golden:
    """A folder of recorded values.

    Args:
        folder: holds ``model/`` and ``expected.json``.
        expected: the latter's content.
    """

    folder: Path
    expected: Mapping[str, Any]

    @classmethod
    def read(cls, folder: Path = GOLDEN) -> Golden:
        """Read the recorded values.

        Raises:
            DataError: the folder is not of that form.
        """
        file = folder / "expected.json"
        if not file.is_file() or not (folder / "model" / "config.json").is_file():
            raise DataError(
                f"{folder}: no golden values; expected expected.json and a Hugging Face model in model/"
            )
        try:
            expected = json.loads(file.read_text(encoding="utf-8"))
            golden = cls(folder, expected)
            golden.adaptation_batch()
            golden.contrastive_batch()
            for key in ("loss_total", "loss_ebae_only", "loss_ebar_only", "loss_ar_only", "grad_norm"):
                float(expected[key])
            for key in ("loss", "grad_norm", "temperature"):
                float(expected["finetune"][key])
            for key in ("q_reps", "p_reps"):
                torch.tensor(expected["finetune"][key])
        except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
            raise DataError(
                f"not of the form of golden values ({type(error).__name__}: {error}); "
                "see llara_core/golden/README.md for what it must hold",
                file=file,
            ) from error
        return golden

    def model(self, dtype: torch.dtype, attention: str, device: str) -> Any:
        """The recorded model, in training mode (it has no dropout).

        Raises:
            ModelError: it cannot be loaded, or not trained with this kernel on this device.
        """
        folder = str(self.folder / "model")
        with quiet_transformers():
            model = load_weights(folder, dtype=dtype, attention=attention, local_files_only=True)
        model = model.to(device).train()
        check_joint_support(decoder_of(model), self.layout().input_ids.shape[1], training=True)
        return model

    def layout(self, padding_side: str = "left") -> JointLayout:
        """The recorded rows laid out for the joint pass."""
        sizes, batch = self.expected["layout"], self.expected["batch"]
        ebae, ebar = int(sizes["ebae_suffix_tokens"]), int(sizes["ebar_suffix_tokens"])
        rows = _real_rows(batch)
        texts, tail = [row[: -ebae - ebar] for row in rows], rows[0][-ebae - ebar :]
        return joint_layout(
            texts,
            tail[:ebae],
            tail[ebae:],
            slots=int(sizes["slots_per_prompt"]),
            pad_id=0,
            padding_side="left" if padding_side == "left" else "right",
        )

    def adaptation_batch(self, padding_side: str = "left") -> dict[str, Tensor]:
        """The recorded adaptation step as one micro-batch of ``AdaptationObjective.forward``.

        Raises:
            ValueError: the recorded ids are not those of prompts behind texts.
        """
        layout, recorded = self.layout(padding_side), self.expected["batch"]
        if padding_side == "left" and layout.input_ids.tolist() != recorded["input_ids"]:
            raise ValueError("batch.input_ids: rows do not end in the same two prompts, padded on the left")
        special = self.expected["layout"]["special_ids_excluded_from_targets"]
        highest = max(int(layout.input_ids.max()), *(max(row) for row in recorded["output_predict_ids"]))
        highest = max(highest, *(max(row) for row in recorded["output_summarize_ids"]), *special)
        excluded = np.zeros(highest + 1, dtype=bool)
        excluded[special] = True
        batch = {"input_ids": layout.input_ids, "segments": layout.segments, "slots": layout.slots}
        for name, key in (("ebae", "output_summarize_ids"), ("ebar", "output_predict_ids")):
            targets = TargetRule(excluded).targets([np.array(row) for row in recorded[key]])
            batch |= dict(zip((f"{name}_rows", f"{name}_ids", f"{name}_weights"), targets, strict=True))
        return batch

    def contrastive_batch(self) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """The recorded contrastive step as one micro-batch of ``ContrastiveObjective.forward``.

        Returns:
            The batch, and the recorded row of each of its query and passage rows.
        """
        recorded = self.expected["finetune"]
        batch: dict[str, Tensor] = {}
        orders = []
        for name in ("query", "passage"):
            rows = _real_rows(recorded[name])
            order = sorted(range(len(rows)), key=lambda row: -len(rows[row]))
            ids, lengths = pad_rows([rows[row] for row in order], pad_id=0)
            batch |= {f"{name}_ids": ids, f"{name}_lengths": lengths}
            orders.append(torch.tensor(order))
        queries, passages = orders
        place = torch.argsort(passages)  # column of each recorded passage
        batch["targets"] = place[queries * int(recorded["train_group_size"])]
        batch["masked"] = torch.zeros(len(queries), len(passages), dtype=torch.bool)
        return batch, queries, passages


def _real_rows(batch: Mapping[str, Any]) -> list[list[int]]:
    """Rows of token ids without their padding."""
    return [
        [index for index, real in zip(ids, mask, strict=True) if real]
        for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)
    ]
