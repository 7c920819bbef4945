"""InfoNCE over the passages of a step, with false negatives masked, on any number of processes.

Source: LLaRA (arXiv 2312.15503), section 3.4; masking, several positives, the symmetric loss, gradient
caching and distillation: issue 3, point 5.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from llara_core.config import FinetuneSettings
from llara_core.model.backbone import decoder_of
from llara_core.model.encoding import embed
from llara_core.training import blockwise
from llara_core.training.distillation import kl_to_teacher
from llara_core.training.distributed import gather_rows, missing_calls
from llara_core.training.recompute import recomputed
from llara_core.training.sub_batches import length_chunks, sub_batch_tokens

__all__ = ["ContrastiveObjective", "info_nce", "length_chunks"]


def info_nce(scores: Tensor, targets: Tensor, masked: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Negative log-likelihood of each row's own candidate, nats, and whether it ranks first; weighted sums.

    Args:
        scores: float [N, P], cosines divided by the temperature; the candidates are of distinct texts.
        targets: int64 [N], the column of each row's own candidate.
        masked: bool [N, P], true where a candidate is no negative of a row (another positive of it).
        weights: float [N]; 1 / N for a mean.
    """
    scores = scores.masked_fill(masked, torch.finfo(scores.dtype).min)
    weights = weights.to(scores.dtype)
    losses = functional.cross_entropy(scores, targets, reduction="none")
    first = (scores.detach().argmax(dim=1) == targets).to(scores.dtype) if len(targets) else losses.detach()
    return losses @ weights, first @ weights


def _pairs(batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The query of each pair and its weight; unless the batch says so: one pair a query, all alike."""
    targets = batch["targets"]
    if "weights" in batch:
        return batch["rows"], batch["weights"]
    return torch.arange(len(targets), device=targets.device), torch.full(
        (len(targets),), 1.0 / len(targets), device=targets.device
    )


class ContrastiveObjective(nn.Module):
    """One contrastive step as a module: a micro-batch in, its share of the loss and its parts out.

    Args:
        model: causal language model, perhaps with adapters.
        settings: temperature, direction, gradient cache, distillation.
        slots: slots per prompt, S.
    """

    uses_output_embedding = False  # the engine looks for weights without a gradient where it must

    def __init__(self, model: Any, settings: FinetuneSettings, slots: int) -> None:
        super().__init__()
        self.model = model
        self.settings = settings
        self.slots = slots
        self.embeddings: Tensor | None = None  # of this process's passages [own P, D], watched for collapse

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """``loss`` and its parts in nats, and ``accuracy``: the share of pairs that rank their own first.

        1. Encode the own queries and passages in length-sorted sub-batches.
        2. Gather the passages of all processes; score every own query against every passage.
        3. Hide false negatives; charge each query for each of its drawn positives.

        Summed over the processes these are the step's values: every query counts the same, and a query's
        positives share its weight.

        Args:
            batch: as ``ContrastiveBatches.part`` gives it. Of the own rows, sorted by falling length:
                ``query_ids`` [Q, T], ``query_lengths`` [Q], ``passage_ids`` and ``passage_lengths``. Of N
                pairs of a query and a positive: ``targets`` [N] and ``masked`` [N, P] over the P passages of
                all processes, ``rows`` [N] (their queries) and ``weights`` [N]; the last two may be left out
                where query and pair are one and the batch is whole. ``query_shares``, ``passage_shares``
                [processes] and this one's ``rank``, unless there is but one. ``back_targets`` [N] and
                ``back_masked`` [N, all queries] for ``symmetric``; ``teacher_columns``, ``teacher_scores``
                [Q, C] and ``teacher_weights`` [Q] with a teacher.
        """
        queries = self._own(batch, "query")
        own = self._own(batch, "passage", last=True)
        self.embeddings = own.detach()
        passages = self._gathered(own, batch, "passage")
        # A temperature of 0.01 turns bfloat16's third digit into whole nats.
        with torch.autocast(queries.device.type, enabled=False):
            return self._charge(queries, passages, batch)

    def _charge(self, queries: Tensor, passages: Tensor, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        settings, targets = self.settings, batch["targets"]
        rows, weights = _pairs(batch)
        loss, accuracy, scores = self._info_nce(queries, passages, (rows, targets, batch["masked"], weights))
        terms = {"accuracy": accuracy}
        if settings.symmetric:
            everyone = self._gathered(queries, batch, "query")
            order = torch.arange(len(targets), device=targets.device)
            back = (order, batch["back_targets"], batch["back_masked"], weights)
            backward, _, _ = self._info_nce(passages[targets], everyone, back)
            terms |= {"query_to_passage": loss, "passage_to_query": backward}
            loss = (loss + backward) / 2
        if "teacher_scores" in batch:
            if scores is None:
                scores = queries @ passages.T / settings.temperature
            view = (batch["teacher_columns"], batch["teacher_scores"], batch["teacher_weights"])
            terms["distillation"] = kl_to_teacher(scores, *view, settings)
            loss = loss + settings.distillation_weight * terms["distillation"]
        return {"loss": loss, **terms}

    def _info_nce(
        self, queries: Tensor, passages: Tensor, pairs: tuple[Tensor, Tensor, Tensor, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Loss, share that ranks first, and the scores [Q, P] where they are few enough to be kept."""
        rows, *rest = pairs
        if len(rows) * len(passages) > blockwise.BLOCK_SCORES:
            return *blockwise.blockwise_info_nce(queries, passages, pairs, self.settings.temperature), None
        scores = queries @ passages.T / self.settings.temperature
        return *info_nce(scores[rows], *rest), scores

    def _own(self, batch: Mapping[str, Tensor], name: str, last: bool = False) -> Tensor:
        """Embeddings of this process's rows; a row that only stands in for an empty share is dropped."""
        vectors = self.encode(batch[f"{name}_ids"], batch[f"{name}_lengths"], last)
        shares = batch.get(f"{name}_shares")
        return vectors if shares is None else vectors[: int(shares[int(batch["rank"])])]

    @staticmethod
    def _gathered(vectors: Tensor, batch: Mapping[str, Tensor], name: str) -> Tensor:
        shares = batch.get(f"{name}_shares")
        if shares is None or len(shares) == 1:
            return vectors
        return gather_rows(vectors, shares.tolist())

    def encode(self, input_ids: Tensor, lengths: Tensor, last: bool = False) -> Tensor:
        """Embeddings [B, D] of rows sorted by falling length, sub-batch by sub-batch.

        With ``gradient_cache`` a sub-batch keeps nothing but its embeddings and is computed again in the
        backward pass, with the same dropout: the gradients of the plain loss, in the memory of one sub-batch.

        Args:
            input_ids: int64 [B, T], padded on the right.
            lengths: int64 [B], falling.
            last: nothing is encoded after these rows. Their last sub-batch is then the first that the
                backward pass wants, and is kept rather than computed again.
        """
        decoder = decoder_of(self.model)
        cached = self.settings.gradient_cache and torch.is_grad_enabled()
        chunks = length_chunks(lengths, sub_batch_tokens(self.settings))
        count = len(chunks)
        chunks += [(0, 1)] * missing_calls(count)
        parts = []
        for number, (start, end) in enumerate(chunks):
            rows = (decoder, input_ids[start:end, : int(lengths[start])], lengths[start:end], self.slots)
            if cached and not (last and number == len(chunks) - 1):
                parts.append(recomputed(embed, *rows))
            else:
                parts.append(embed(*rows))
        vectors = torch.cat(parts[:count])
        for extra in parts[count:]:  # part of the graph, so that its backward pass is run as well
            vectors = vectors + 0.0 * extra.sum()
        return vectors
