"""What an export has to give before its folder appears: the bundle's own vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from llara_core.errors import ModelError
from llara_core.model.encoding import embed, pad_rows
from llara_core.model.export_tokenizers import KINDS, probes
from llara_core.model.prompts import PromptEncoder

# A rounding in bfloat16 changes a cosine by 1e-5; a slot in the wrong place, by a tenth.
LEAST_COSINE = 0.9999


def probe_rows(encoder: PromptEncoder) -> list[list[int]]:
    """Prompts of all probes, queries first: short, empty and cut rows side by side."""
    return [row for kind in KINDS for row in encoder.encode_batch(probes(encoder, kind), kind)]


@torch.inference_mode()
def probe_vectors(decoder: Any, encoder: PromptEncoder) -> NDArray[np.float32]:
    """Vectors float32 [N, D] of the probes, by the decoder that is given.

    Args:
        decoder: the model without its output head.
        encoder: of the bundle.
    """
    ids, lengths = pad_rows(probe_rows(encoder), encoder.pad_id)
    device = decoder.device
    slots = encoder.template.slots_per_prompt
    found = embed(decoder.eval(), ids.to(device), lengths.to(device), slots)
    return found.float().cpu().numpy()


def check_vectors(
    expected: NDArray[np.float32], found: NDArray[np.float32], what: str, least: float = LEAST_COSINE
) -> float:
    """The least cosine between vectors that should be the same.

    Args:
        expected: [N, D], of length 1.
        found: [N, D], of length 1.
        what: to call the export in the message.
        least: that is allowed.

    Raises:
        ModelError: one is below that, or no number.
    """
    lowest = float((expected * found).sum(axis=1).min())
    if not lowest >= least:  # NaN is not
        raise ModelError(
            f"{what}: gives other vectors than the bundle (least cosine {lowest:.6f}, expected at least "
            f"{least}); nothing was kept. Export with --to merged, which changes nothing"
        )
    return min(lowest, 1.0)
