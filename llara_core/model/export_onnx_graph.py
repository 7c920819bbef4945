"""The graph that is exported: token ids and padding mask → normalised vectors, slots pooled inside.

The mask is built here, for every family alike, from what ``attention`` knows of its windows: transformers'
own masks decide by the values of a batch, which a graph cannot. Positions are counted from the left, since
padding stands on the right. Source: issue 7, point 5.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from llara_core.model.attention import layer_windows


class EmbeddingGraph(nn.Module):
    """``input_ids`` and ``attention_mask``, int64 [B, T], padded on the right → float32 [B, D] of length 1.

    Args:
        decoder: the model without its output head.
        slots: S; the last S real positions of a row.

    Raises:
        ModelError: the decoder has layers that are no causal attention.
    """

    def __init__(self, decoder: Any, slots: int) -> None:
        super().__init__()
        self.decoder, self.slots = decoder, slots
        self.windows = layer_windows(decoder)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """See the class."""
        columns = torch.arange(input_ids.shape[1], device=input_ids.device)
        masks = {kind: self._mask(attention_mask, columns, window) for kind, window in self.windows.items()}
        states = self.decoder(
            input_ids=input_ids,
            attention_mask=masks if len(masks) > 1 else next(iter(masks.values())),
            position_ids=columns[None, :],
            use_cache=False,
        ).last_hidden_state
        ends = attention_mask.sum(dim=1)
        behind = columns[None, :] - ends[:, None]  # [B, T]: -1 is the last real position
        chosen = ((behind < 0) & (behind >= -self.slots)).float()
        pooled = (states.float() * chosen[:, :, None]).sum(dim=1) / self.slots
        return functional.normalize(pooled, dim=-1)

    def _mask(self, real: Tensor, columns: Tensor, window: int | None) -> Tensor:
        """Additive [B, 1, T, T]; a padded position looks at itself, so that no softmax runs over nothing."""
        query, key = columns[:, None], columns[None, :]
        allowed = key <= query
        if window is not None:
            allowed &= query - key < window
        seen = (allowed[None] & (real[:, None, :] > 0)) | (query == key)[None]
        dtype = self.decoder.dtype
        zero = torch.zeros((), dtype=dtype, device=real.device)
        return torch.where(seen, zero, torch.finfo(dtype).min)[:, None]
