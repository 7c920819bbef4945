"""LLaRA as a library: any decoder-only language model becomes a dense retriever.

The public names below are loaded on first use, so that ``import llara_core`` costs
milliseconds and a tool that only needs the settings never pays for torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "Collection": "llara_core.data.collection",
    "Retriever": "llara_core.model.retriever",
    "LlaraError": "llara_core.errors",
}
__all__ = ["Collection", "LlaraError", "Retriever", "__version__"]

if TYPE_CHECKING:
    from llara_core.data.collection import Collection
    from llara_core.errors import LlaraError
    from llara_core.model.retriever import Retriever


def __getattr__(name: str) -> Any:
    """Load a public name from its home module.

    Raises:
        AttributeError: the name is not public.
    """
    if name not in _HOMES:
        public = ", ".join(__all__)
        raise AttributeError(f"module 'llara_core' has no attribute {name!r}; public names: {public}")
    return getattr(import_module(_HOMES[name]), name)
