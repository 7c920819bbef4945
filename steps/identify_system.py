"""Identify a system: which version or folder is judged under which name, decided when the run starts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from zenml import log_metadata, step

from llara_core.evaluation_settings import BM25, JudgedModel, in_keys
from llara_core.model.bundle import read_bundle
from steps import registry, tracking
from steps.caching import never


@step(enable_cache=False, cache_policy=never())
def identify_system(model: JudgedModel) -> Annotated[dict[str, str], "system"]:
    """Name, place and fingerprint of a system; always runs, because aliases move and folders change.

    What judges it is cached on the answer, so a model is judged again exactly when it is another one.

    Args:
        model: as the user named it.

    Returns:
        ``name`` (for tables and metric keys), ``place`` (``models:/NAME/VERSION``, a folder or ``bm25``) and
        ``fingerprint`` (two registries' versions may share a number, and a folder may be overwritten).

    Raises:
        ConfigError: the registry cannot be reached, or has no such model, alias or version.
        ModelError: the folder holds no bundle of ours.
    """
    if model.model == BM25:
        name, place, fingerprint = BM25, BM25, ""
    elif model.model.startswith(registry.SCHEME):
        found = registry.find(model.model, "models")
        name, place = f"{found.name}-v{found.version}", f"{registry.SCHEME}{found.name}/{found.version}"
        fingerprint = str(found.tags.get("fingerprint") or found.run_id)
    else:
        folder = Path(model.model).expanduser().resolve()
        name, place, fingerprint = in_keys(folder.name), str(folder), read_bundle(folder).fingerprint
    answer = {"name": model.name or in_keys(name), "place": place, "fingerprint": fingerprint}
    tracking.set_tags({f"judged/{answer['name']}": place})
    log_metadata({"reference": model.model, **answer})
    return answer
