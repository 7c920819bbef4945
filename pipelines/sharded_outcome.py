"""What a finished run of the sharded pipeline tells the person who started it."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape

# What is told of: words, the output, the mapped step it was made by, and the word for one of those.
_MADE = (
    ("Vectors", "corpus_vectors", "encode_shard", "shard"),
    ("Negatives", "hard_negatives", "mine_shard", "part"),
)


def show(run: Any, console: Console) -> None:
    """Print what was made of how many parts, and where it lies.

    Args:
        run: the finished run of the sharded pipeline.
        console: where to print.
    """
    console.print()
    for words, output, step, part in _MADE:
        count = sum(step in name for name in run.steps)  # ZenML calls them `map:STEP:NUMBER`
        for made in (made for one in run.steps.values() for made in one.outputs.get(output, ())):
            parts = f"{count} {part}{'' if count == 1 else 's'}"
            told = f"{output}, version {made.version}, of {parts}: {made.uri}"
            console.print(f"[bold]{words:<10}[/] {escape(told)}", highlight=False, soft_wrap=True)
