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
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from llara_core.config import AdaptSettings
from llara_core.model.backbone import decoder_of
from llara_core.model.joint_pass import TEXT, JointLayout, joint_forward, joint_positions

# Positions whose logits exist at one time in the language-model term.
CHUNK = 1024


def output_logits(model: Any, states: Tensor) -> Tensor:
    """Logits [..., V] float32 of final hidden states [..., D], as the model's own forward computes them.

    Args:
        model: causal language model; soft-capping and scaling of its configuration are applied.
        states: final hidden states.
    """
    logits: Tensor = model.get_output_embeddings()(states).float()
    config = model.config.get_text_config()
    logits = logits * (getattr(config, "logit_scale", None) or 1.0)  # Cohere multiplies
    logits = logits / (getattr(config, "logits_scaling", None) or 1.0)  # Granite divides
    cap = getattr(config, "final_logit_softcapping", None)  # Gemma 2
    return torch.tanh(logits / cap) * cap if cap else logits


def reduce_slots(logits: Tensor, reduction: Literal["max", "mean"]) -> Tensor:
    """One score per word: logits [B, S, V] → [B, V], the best (released code) or the mean of the slots."""
    if logits.shape[1] == 1:
        return logits[:, 0]
    return logits.amax(dim=1) if reduction == "max" else logits.mean(dim=1)


def bag_of_words_loss(logits: Tensor, rows: Tensor, ids: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean negative log-likelihood of the target words, nats; mean over rows that have targets.

    Only target entries are gathered: log-probabilities of the whole vocabulary are never stored.

    Args:
        logits: float32 [B, V].
        rows: int64 [K], the row of each target.
        ids: int64 [K], its token id.
        weights: float32 [K], summing to 1 over the targets of a row.

    Returns:
        A scalar; 0 when no row has a target.
    """
    if rows.numel() == 0:
        return logits.sum() * 0.0
    normaliser = logits.logsumexp(dim=-1)
    losses = (normaliser[rows] - logits[rows, ids]) * weights
    with_targets = torch.zeros_like(normaliser).index_fill_(0, rows, 1.0).sum()
    return losses.sum() / with_targets


def language_model_loss(model: Any, states: Tensor, input_ids: Tensor, predicted: Tensor) -> Tensor:
    """Mean next-token cross entropy, nats, in chunks that are computed again in the backward pass.

    Args:
        model: causal language model.
        states: final hidden states [B, T, D].
        input_ids: int64 [B, T].
        predicted: bool [B, T], true where a token is to be predicted from the position before it.
    """
    wanted = predicted[:, 1:]
    sources, targets = states[:, :-1][wanted], input_ids[:, 1:][wanted]
    if not len(targets):
        return states.sum() * 0.0

    def chunk_loss(chunk: Tensor, labels: Tensor) -> Tensor:
        return functional.cross_entropy(output_logits(model, chunk), labels, reduction="sum")

    total = states.new_zeros((), dtype=torch.float32)
    for chunk, labels in zip(torch.split(sources, CHUNK), torch.split(targets, CHUNK), strict=True):
        total = total + checkpoint(chunk_loss, chunk, labels, use_reentrant=False)
    return total / len(targets)


class AdaptationObjective(nn.Module):
    """One adaptation step as a module: a batch in, the total loss and its terms out.

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
        self.log_prior: Tensor | None
        self.register_buffer("log_prior", log_prior, persistent=False)

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Losses in nats: ``loss`` (weighted total) and the terms ``ebae``, ``ebar``, ``language_model``.

        1. One joint pass gives the hidden states of both prompts.
        2. The output embedding turns slot states into word scores; slots are reduced.
        3. Each branch is charged for the words of its target set.

        Args:
            batch: ``input_ids`` and ``segments`` [B, T], ``slots`` [B, 2, S], and for both branches
                ``<branch>_rows``, ``<branch>_ids``, ``<branch>_weights`` [K].
        """
        layout = JointLayout(batch["input_ids"], batch["segments"], batch["slots"])
        states = joint_forward(decoder_of(self.model), layout)
        rows = torch.arange(states.shape[0], device=states.device)[:, None]
        terms: dict[str, Tensor] = {}
        total = states.new_zeros((), dtype=torch.float32)
        for branch, name in enumerate(("ebae", "ebar")):
            weight = self.settings.ebae_weight if name == "ebae" else self.settings.ebar_weight
            if weight == 0:
                continue
            scores = self._scores(states[rows, layout.slots[:, branch]])
            targets = (batch[f"{name}_{part}"] for part in ("rows", "ids", "weights"))
            terms[name] = bag_of_words_loss(scores, *targets)
            total = total + weight * terms[name]
        if self.settings.language_model_weight:
            positions = joint_positions(layout.segments)
            predicted = (layout.segments == TEXT) & (positions >= max(self.prefix_length, 1))
            terms["language_model"] = language_model_loss(self.model, states, layout.input_ids, predicted)
            total = total + self.settings.language_model_weight * terms["language_model"]
        return {"loss": total, **terms}

    def _scores(self, states: Tensor) -> Tensor:
        """Word scores [B, V] of the slots' states [B, S, D]."""
        scores = reduce_slots(output_logits(self.model, states), self.settings.slot_reduction)
        return scores if self.log_prior is None else scores + self.log_prior
