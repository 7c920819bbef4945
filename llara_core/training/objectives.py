"""EBAE and EBAR: the slots of a text must name the words of it, or of the text that follows.

A bag-of-words likelihood through the model's own output embedding, which is applied to slot positions
only: logits are [B, S, V], never [B, T, V]. With ``released`` settings (``ebae_weight`` and
``ebar_weight`` 0.05, ``language_model_weight`` 1) the total is that of the published code, which divides
each bag-of-words term by 10 and adds half of either.

Source: LLaRA (arXiv 2312.15503), section 3.1, equations 2 and 3; frequency prior and IDF weights: issue 3,
point 3 (without them a model from scratch only learns the unigram distribution, and its vectors collapse).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from llara_core.config import AdaptSettings
from llara_core.model.attention import TEXT, layout_positions
from llara_core.model.backbone import decoder_of
from llara_core.model.joint_pass import TESTED_FAMILIES, layout_forward
from llara_core.model.split_attention import use_split_attention
from llara_core.training.fused_cross_entropy import output_logits, summed_cross_entropy


def reduce_slots(logits: Tensor, reduction: Literal["max", "mean"]) -> Tensor:
    """One score per word: logits [B, S, V] → [B, V], the best (released code) or the mean of the slots."""
    if logits.shape[1] == 1:
        return logits[:, 0]
    return logits.amax(dim=1) if reduction == "max" else logits.mean(dim=1)


def bag_of_words_loss(
    logits: Tensor, rows: Tensor, ids: Tensor, weights: Tensor, total: Tensor | None = None
) -> Tensor:
    """Weighted mean negative log-likelihood of the target words, nats; mean over rows that have targets.

    Only target entries are gathered: log-probabilities of the whole vocabulary are never stored.

    Args:
        logits: float32 [B, V].
        rows: int64 [K], the row of each target.
        ids: int64 [K], its token id.
        weights: float32 [K], summing to 1 over the targets of a row.
        total: rows with targets in the whole step, of which these are a part; None: these are all.

    Returns:
        A scalar, the contribution of these rows to the mean; 0 when no row has a target.
    """
    if rows.numel() == 0:
        return logits.sum() * 0.0
    normaliser = logits.logsumexp(dim=-1)
    losses = (normaliser[rows] - logits[rows, ids]) * weights
    if total is None:
        total = torch.zeros_like(normaliser).index_fill_(0, rows, 1.0).sum()
    return losses.sum() / total


def _at_least_float32(states: Tensor) -> torch.dtype:
    return torch.promote_types(states.dtype, torch.float32)


def language_model_loss(
    model: Any, states: Tensor, input_ids: Tensor, predicted: Tensor, step_total: Tensor | None = None
) -> Tensor:
    """Mean next-token cross entropy, nats, without the logits of more than a chunk.

    Args:
        model: causal language model.
        states: final hidden states [B, T, D].
        input_ids: int64 [B, T].
        predicted: bool [B, T], true where a token is to be predicted from the position before it.
        step_total: predicted tokens of the whole step, of which these are a part; None: these are all.
    """
    places = predicted[:, 1:].nonzero()
    sources = states.flatten(0, 1).index_select(0, places[:, 0] * states.shape[1] + places[:, 1])
    targets = input_ids[:, 1:][places[:, 0], places[:, 1]]
    total = max(len(targets), 1) if step_total is None else step_total.clamp(min=1)
    return summed_cross_entropy(model, sources, targets) / total


def choose_attention(model: Any, device: str) -> None:
    """Let a model of a tested family compute the joint layout in the cheapest way for the device.

    Args:
        model: causal language model; only the name of its attention kernel changes.
        device: type of the device that it will run on, e.g. ``cpu``.
    """
    decoder = decoder_of(model)
    if decoder.config.model_type in TESTED_FAMILIES:
        use_split_attention(decoder, device)


class AdaptationObjective(nn.Module):
    """An adaptation step, or a micro-batch of one, as a module: a batch in, the loss and its terms out.

    Args:
        model: causal language model, perhaps with adapters.
        settings: weights, reduction and variants.
        prefix_length: tokens before the text; the language-model term leaves them out.
        log_prior: float32 [V], log unigram frequencies added to the logits, so that the embedding only
            explains what is special about its text; None: no prior.
    """

    def __init__(
        self, model: Any, settings: AdaptSettings, prefix_length: int, log_prior: Tensor | None = None
    ) -> None:
        super().__init__()
        self.model = model
        self.settings = settings
        self.prefix_length = prefix_length
        self.embeddings: Tensor | None = None  # of the last batch's texts [B, D], watched for collapse
        self.log_prior: Tensor | None
        self.register_buffer("log_prior", log_prior, persistent=False)
        choose_attention(model, decoder_of(model).device.type)

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Losses in nats: ``loss`` (weighted total) and the terms ``ebae``, ``ebar``, ``language_model``.

        Each is the batch's contribution to its step: summed over the micro-batches of all processes it is
        the value of the step, and so are the gradients.

        1. One joint pass gives the hidden states of both prompts.
        2. The output embedding turns slot states into word scores; slots are reduced.
        3. Each branch is charged for the words of its target set.

        Args:
            batch: ``input_ids`` and ``segments`` [B, T], ``slots`` [B, 2, S], and for both branches
                ``<branch>_rows``, ``<branch>_ids``, ``<branch>_weights`` [K]. A micro-batch says how much
                the whole step holds: ``ebae_total`` and ``ebar_total`` (rows with targets) and
                ``language_model_total`` (predicted tokens), int64 []; without them it is the whole step.
                Packed rows (B rows in N sequences) come with ``documents`` [N, T] and ``slot_rows``
                [B, 2, S], as in ``packing.PackedLayout``.
        """
        tokens, segments, documents = batch["input_ids"], batch["segments"], batch.get("documents")
        states = layout_forward(decoder_of(self.model), tokens, segments, documents)
        places = self._slot_states(states, batch)
        terms: dict[str, Tensor] = {}
        total = states.new_zeros((), dtype=_at_least_float32(states))
        for branch, name in enumerate(("ebae", "ebar")):
            weight = self.settings.ebae_weight if name == "ebae" else self.settings.ebar_weight
            if weight == 0:
                continue
            scores = self._scores(places[:, branch])
            rows_of, ids, weights = (batch[f"{name}_{part}"] for part in ("rows", "ids", "weights"))
            terms[name] = bag_of_words_loss(scores, rows_of, ids, weights, batch.get(f"{name}_total"))
            total = total + weight * terms[name]
        if self.settings.language_model_weight:
            # The first token of a row has nothing before it, the prefix is not text.
            started = layout_positions(segments, documents) >= max(self.prefix_length, 1)
            terms["language_model"] = language_model_loss(
                self.model, states, tokens, (segments == TEXT) & started, batch.get("language_model_total")
            )
            total = total + self.settings.language_model_weight * terms["language_model"]
        self.embeddings = places[:, 0].detach().mean(dim=1)
        return {"loss": total, **terms}

    @staticmethod
    def _slot_states(states: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """States of all slots [B, 2, S, D] out of those of all positions [N, T, D]."""
        slots = batch["slots"]
        rows = batch.get("slot_rows", torch.arange(len(slots), device=slots.device)[:, None, None])
        places = (rows * states.shape[1] + slots).flatten()
        # One gather by plain index: the gradient of indexing in two dimensions is many times slower.
        return states.flatten(0, 1).index_select(0, places).view(*slots.shape, states.shape[-1])

    def _scores(self, states: Tensor) -> Tensor:
        """Word scores [B, V] of the slots' states [B, S, D]."""
        scores = reduce_slots(output_logits(self.model, states), self.settings.slot_reduction)
        return scores if self.log_prior is None else scores + self.log_prior
