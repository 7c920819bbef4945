"""The bag-of-words loss as slow, obvious loops over rows and words."""

from __future__ import annotations

import math

import torch


def bag_of_words_oracle(logits: torch.Tensor, targets: list[dict[int, float]]) -> float:
    """Mean over rows with targets of the weighted mean of -log softmax(logits)[word], one word at a time."""
    losses = []
    for row, words in zip(logits.double().tolist(), targets, strict=True):
        if not words:
            continue
        normaliser = math.log(sum(math.exp(value) for value in row))
        losses.append(
            sum(weight * (normaliser - row[word]) for word, weight in words.items()) / sum(words.values())
        )
    return sum(losses) / len(losses) if losses else 0.0
