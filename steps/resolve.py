"""Resolve: which version a reference into the model registry means at this moment."""

from __future__ import annotations

from typing import Annotated

from zenml import log_metadata, step

from steps import registry, tracking
from steps.caching import never


@step(enable_cache=False, cache_policy=never())
def resolve(reference: str) -> Annotated[str, "base_reference"]:
    """The exact version behind ``models:/NAME@ALIAS``; always runs, because aliases move.

    Later steps are cached on the answer, so they run again exactly when the alias has moved.

    Args:
        reference: ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION``.

    Returns:
        ``models:/NAME/VERSION#FINGERPRINT``; the fingerprint tells two registries' versions apart.

    Raises:
        ConfigError: the registry cannot be reached, or has no such model, alias or version.
    """
    found = registry.find(reference)
    exact = f"{registry.SCHEME}{found.name}/{found.version}"
    tracking.set_tags({"base_model": exact})
    log_metadata({"reference": reference, "base_model": exact})
    return f"{exact}#{found.tags.get('fingerprint') or found.run_id}"
