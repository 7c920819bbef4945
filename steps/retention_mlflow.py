"""What MLflow has kept: versions of registered models, the models they were made of, and runs.

A version goes before its files, and a run is marked before it is deleted, so that an interruption leaves only
what the next ``llara gc`` finds. On a tracking server a client can mark but not delete; ``mlflow gc`` on the
server does the rest. Source: issue 6, point 6.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from llara_core.operations.retention import Item, newest, size_of, too_young
from llara_core.operations.retention_use import References, texts_refer
from llara_core.operations_settings import RetentionSettings

logger = logging.getLogger(__name__)
VERSION, LOGGED, RUN = "model version", "logged model", "MLflow run"
MARK = "llara.gc"  # tag of what a gc has marked as deleted: what a person deleted can be restored
_FINAL = ("FINISHED", "FAILED", "KILLED")


class Registry:
    """MLflow as it is now: read once, so that all questions get answers of one moment.

    Args:
        client: an ``MlflowClient``.
        experiment: name of the experiment of the runs.
        needed: ``<registered model>/<number>`` of versions that something else needs, to the words.
        referred: what schedules and live pairs refer to.
    """

    def __init__(self, client: Any, experiment: str, needed: dict[str, str], referred: References) -> None:
        self.client = client
        found = client.get_experiment_by_name(experiment)
        self.experiment = None if found is None else found.experiment_id
        self.models = list(_pages(client.search_registered_models))
        self.versions = {
            model.name: list(_pages(client.search_model_versions, filter_string=f"name = '{model.name}'"))
            for model in self.models
        }
        self.needed = self._needed(dict(needed), referred)

    def _needed(self, needed: dict[str, str], referred: References) -> dict[str, str]:
        """Versions that an alias or a schedule names, and those that such versions were made from."""
        aliases = {f"{model.name}@{alias}": f"{model.name}/{number}"
                   for model in self.models for alias, number in model.aliases.items()}  # fmt: skip
        for alias, version in aliases.items():
            needed.setdefault(version, f"alias {alias.split('@')[1]}")
        for version in (*referred.versions, *(aliases[one] for one in referred.aliases if one in aliases)):
            needed.setdefault(version, "a schedule uses it")
        waiting = list(needed)
        while waiting:
            version = waiting.pop()
            base = self._base_of(version, aliases)
            if base is not None and base not in needed:
                needed[base] = f"{version} was made from it"
                waiting.append(base)
        return needed

    def _base_of(self, version: str, aliases: dict[str, str]) -> str | None:
        """The version that another started from, as its tags say."""
        found = next((one for one in self._all() if _full_name(one) == version), None)
        if found is None:
            return None
        referred = texts_refer(_configuration(found))
        return next(
            iter((*referred.versions, *(aliases[one] for one in referred.aliases if one in aliases))), None
        )

    def _all(self) -> Iterator[Any]:
        for versions in self.versions.values():
            yield from versions

    def version_items(self, settings: RetentionSettings, now: float) -> list[Item]:
        """Every version, with the reason it stays."""
        found = []
        for name, versions in self.versions.items():
            latest = newest({str(one.version): float(one.version) for one in versions}, settings.versions)
            for one in sorted(versions, key=lambda version: int(version.version)):
                moment = one.last_updated_timestamp / 1000
                reason = (
                    self.needed.get(_full_name(one))
                    or (f"among the newest {settings.versions}" if str(one.version) in latest else None)
                    or too_young(moment, now, settings.minimum_age_days)
                )
                found.append(Item(VERSION, f"{name}/{one.version}", 0, moment, reason, key=str(one.version)))
        return found

    def logged_items(
        self, going: set[str], settings: RetentionSettings, running: str | None, now: float
    ) -> list[Item]:
        """Every logged model, with the reason it stays: a version, or a run that may be about to register it.

        Args:
            going: ``<registered model>/<number>`` of the versions that will be deleted.
            settings: ages.
            running: what is under way, in words.
            now: seconds since 1970.
        """
        if self.experiment is None:
            return []
        staying = [version for version in self._all() if _full_name(version) not in going]
        found = []
        for model in _pages(self.client.search_logged_models, experiment_ids=[self.experiment]):
            place, moment = local_path(model.artifact_location), model.last_updated_timestamp / 1000
            holder = next((version for version in staying if _made_of(version, model.model_id)), None)
            reason = f"{_full_name(holder)} is made of it" if holder is not None else running
            reason = reason or too_young(moment, now, settings.minimum_age_days)
            size = size_of(place) if place is not None else 0
            found.append(Item(LOGGED, model.model_id, size, moment, reason, place, model.model_id))
        return found

    def run_items(
        self, going: set[str], settings: RetentionSettings, running: Collection[str], now: float
    ) -> list[Item]:
        """Every run of the experiment, with the reason it stays.

        Args:
            going: as above: the runs of other versions stay.
            settings: ages and numbers.
            running: names of pipeline runs under way; their MLflow runs are closed between two steps.
            now: seconds since 1970.
        """
        held = {
            version.run_id: _full_name(version) for version in self._all() if _full_name(version) not in going
        }
        found = []
        every = list(self._runs("ACTIVE_ONLY"))
        latest = newest({run.info.run_id: run.info.start_time for run in every}, settings.runs)
        for run in every:
            info = run.info
            moment = (info.end_time or info.start_time) / 1000
            reason: str | None = too_young(moment, now, settings.minimum_age_days)
            if info.status not in _FINAL or info.run_name in running:
                reason = "it is under way"
            elif info.run_id in held:
                reason = f"{held[info.run_id]} was made by it"
            elif info.run_id in latest:
                reason = f"among the newest {settings.runs}"
            place = local_path(info.artifact_uri)
            size = size_of(place) if place is not None else 0
            found.append(Item(RUN, info.run_name, size, moment, reason, place, info.run_id))
        for run in () if server(self.client) else self._runs("DELETED_ONLY"):
            if MARK in run.data.tags:  # of a gc that was interrupted
                found.append(
                    Item(RUN, run.info.run_name, 0, run.info.start_time / 1000, None, None, run.info.run_id)
                )
        return found

    def fingerprints(self) -> dict[str, str]:
        """Of models that are needed, to the words: their vectors are worth keeping."""
        return {
            version.tags["fingerprint"]: f"of {_full_name(version)}"
            for version in self._all()
            if _full_name(version) in self.needed and "fingerprint" in version.tags
        }

    def kept_run_names(self, runs: list[Item]) -> dict[str, str]:
        """Names of pipeline runs whose MLflow runs a version needs: their lineage stays, too."""
        return {
            item.name: item.keep
            for item in runs
            if item.keep is not None and item.keep.endswith("was made by it")
        }

    def _runs(self, kind: str) -> Iterator[Any]:
        from mlflow.entities import ViewType

        if self.experiment is None:
            return iter(())
        return _pages(self.client.search_runs, experiment_ids=[self.experiment],
                      run_view_type=getattr(ViewType, kind))  # fmt: skip


def delete_version(client: Any, item: Item) -> str | None:
    """Delete a version unless it has got an alias meanwhile; returns why it stays, or None."""
    name, number = item.name.rsplit("/", 1)
    for alias, found in client.get_registered_model(name).aliases.items():
        if str(found) == number:
            return f"alias {alias}"
    _unless_gone(lambda: client.delete_model_version(name, number))
    return None


def delete_logged(client: Any, item: Item) -> str | None:
    """Delete a logged model that no version is made of; returns why it stays, or None."""
    for model in _pages(client.search_registered_models):
        for version in _pages(client.search_model_versions, filter_string=f"name = '{model.name}'"):
            if _made_of(version, item.key):
                return f"{_full_name(version)} is made of it"
    store = client._tracking_client.store
    location = _unless_gone(lambda: client.get_logged_model(item.key).artifact_location)
    if location is None:
        return None
    # Files first: a model without its record is found by nobody, a record without files by the next gc.
    _files(location)
    _unless_gone(lambda: client.delete_logged_model(item.key))
    if hasattr(store, "_hard_delete_logged_model"):
        _unless_gone(lambda: store._hard_delete_logged_model(item.key))
    return None


def delete_run(client: Any, item: Item) -> str | None:
    """Delete a run with its files; on a server only mark it. Returns why it stays, or None."""
    from mlflow.entities import LifecycleStage

    run = _unless_gone(lambda: client.get_run(item.key))
    if run is None:
        return None
    if run.info.lifecycle_stage == LifecycleStage.ACTIVE:
        if run.info.status not in _FINAL:
            return f"it is {run.info.status.lower()}"
        client.set_tag(item.key, MARK, "1")
        client.delete_run(item.key)
    store = client._tracking_client.store
    if not hasattr(store, "_hard_delete_run"):
        return None
    _files(run.info.artifact_uri)
    _unless_gone(lambda: store._hard_delete_run(item.key))
    return None


def server(client: Any) -> bool:
    """Whether runs can only be marked here, and `mlflow gc` on the server has to delete them."""
    return not hasattr(client._tracking_client.store, "_hard_delete_run")


def local_path(uri: str) -> Path | None:
    """The folder of a ``file:`` address or a path; None for anything elsewhere."""
    parts = urlparse(uri)
    if parts.scheme not in ("", "file"):
        return None
    return Path(unquote(parts.path))


def _files(uri: str) -> None:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    place = local_path(uri)
    if place is None or place.exists():
        get_artifact_repository(uri).delete_artifacts()


def _unless_gone(work: Callable[[], Any]) -> Any:
    """What the work gives; None where its subject does not exist any more."""
    from mlflow.exceptions import MlflowException

    try:
        return work()
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise


def _pages(search: Callable[..., Any], **filters: Any) -> Iterator[Any]:
    token = None
    while True:
        found = search(page_token=token, **filters)
        yield from found
        token = found.token
        if not token:
            return


def _full_name(version: Any) -> str:
    return f"{version.name}/{version.version}"


def _made_of(version: Any, model: str) -> bool:
    """Whether a version is made of a logged model; older versions name its folder as their source."""
    return version.model_id == model or model in str(version.source or "")


def _configuration(version: Any) -> Any:
    try:
        return json.loads(version.tags.get("configuration", "{}"))
    except ValueError:
        return {}
