"""Hold out: some passages are kept from adaptation, so that it can be judged on text it has not seen."""

from __future__ import annotations

from typing import Annotated, Literal

from zenml import log_metadata, step

from llara_core.data.passages import held_out_rows
from steps.caching import policy
from steps.materializers import FolderArtifact, FolderMaterializer
from steps.stored.table import open_table, store_table


@step(cache_policy=policy(__file__), output_materializers=FolderMaterializer)
def hold_out(
    passages: FolderArtifact, count: int, part: Literal["training", "held_out"]
) -> Annotated[FolderArtifact, "passages_part"]:
    """One part of the passages; the pipeline asks for both.

    Args:
        passages: table of ``text`` and ``next_text``.
        count: passages to hold out, about.
        part: the one to give.

    Raises:
        DataError: there are too few passages to hold any out.
    """
    training, held_out = held_out_rows(open_table(passages), count)
    chosen = training if part == "training" else held_out
    log_metadata({"passages": chosen.num_rows})
    return store_table(chosen, f"passages_{part}")
