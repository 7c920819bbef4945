"""Choose: which registered version the live index is made with, and what serves now."""

from __future__ import annotations

import logging
from typing import Annotated, Any

from zenml import log_metadata, step

from llara_core.errors import ConfigError
from steps import registry
from steps.caching import never
from steps.live_state import settle, store_of
from steps.servable import servable

logger = logging.getLogger(__name__)


@step(enable_cache=False, cache_policy=never())
def choose_pair(name: str, live: str | None) -> Annotated[dict[str, Any], "chosen"]:
    """``name``, ``version`` and ``fingerprint`` of the model, ``store``, and ``live``: the pair that serves.

    Never cached, since the registry and the pointer may have changed. A rollback that was cut off before the
    registry knew of it is finished first.

    Args:
        name: of the registered model.
        live: folder of the live store; None: the default.

    Raises:
        ConfigError: the stack has no MLflow registry, or it holds no version that may serve.
        LiveError: the pointer is damaged.
    """
    if not registry.registry_is_mlflow():
        raise ConfigError(
            "the stack has no MLflow model registry, so there is no champion to index with; use a stack "
            "that has one (`python -m pipelines stack` makes llara-local)"
        )
    store = store_of(name, live)
    if (told := settle(store, name)) is not None:
        logger.info("%s: a rollback that was cut off is finished: %s", name, told)
    version, present = servable(name), store.current()
    chosen = {
        "name": name,
        "version": str(version.version),
        "fingerprint": version.tags.get("fingerprint", ""),
        "store": str(store.folder.absolute()),
        "live": None if present is None else present.name,
    }
    log_metadata({"chosen": {key: str(value) for key, value in chosen.items()}})
    now = "nothing serves yet" if present is None else f"{present.name} serves"
    logger.info("%s: version %s is to serve, %s", name, chosen["version"], now)
    return chosen
