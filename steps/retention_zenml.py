"""What ZenML has kept of runs: runs, and artifacts that no run knows any more.

A run goes before its artifacts: without the run nobody can take them from the cache, so an interruption
leaves artifacts that belong to nobody, and the next ``llara gc`` finds those. While a run is under way none
goes at all: its next steps may be about to come from the cache. Source: issue 6, point 6.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from zenml.client import Client
from zenml.enums import ExecutionStatus

from llara_core.errors import LlaraError
from llara_core.operations.retention import Item, Use, newest, size_of, too_young
from llara_core.operations_settings import RetentionSettings

logger = logging.getLogger(__name__)
RUN, ARTIFACT = "ZenML run", "artifact"
_PAGE = 200


class RetentionError(LlaraError):
    """Something could not be deleted; the message says what and why."""


def unfinished() -> list[str]:
    """Names of the runs that ZenML believes to be under way."""
    open_states = [status.value for status in ExecutionStatus if not status.is_finished]
    found = _pages(Client().list_pipeline_runs, status=f"oneof:{json.dumps(open_states)}")
    return sorted(run.name for run in found)


def runs(
    settings: RetentionSettings, kept_runs: Mapping[str, str], running: str | None, now: float
) -> list[Item]:
    """Every run, with the reason it stays.

    Args:
        settings: ages and numbers.
        kept_runs: names of runs that something else needs, to the words.
        running: what is under way, in words.
        now: seconds since 1970.
    """
    found = list(_runs())
    latest: set[str] = set()
    for pipeline in {_pipeline(run) for run in found}:
        moments = {
            str(run.id): _moment(run)
            for run in found
            if _pipeline(run) == pipeline and run.status.is_finished
        }
        latest |= newest(moments, settings.runs)
    items = [_item(run, str(run.id) in latest, settings, kept_runs, now) for run in found]
    return [replace(item, keep=item.keep or running) for item in items]


def artifacts(going: set[str], settings: RetentionSettings, use: Use, now: float) -> list[Item]:
    """Artifacts that no run uses, or only runs that go, each with the reason it stays.

    Args:
        going: ids of the runs that will be deleted.
        settings: ages.
        use: what is in use.
        now: seconds since 1970.
    """
    staying = {
        str(artifact) for run in _runs() if str(run.id) not in going for artifact in _artifacts_of(run.id)
    }
    found = []
    for one in _pages(Client().list_artifact_versions):
        if str(one.id) in staying:
            continue
        place = Path(one.uri)
        local = place.exists()
        reason = use.running or (use.of_path(place) if local else None)
        reason = reason or too_young(_moment(one), now, settings.minimum_age_days)
        size = size_of(place) if local else 0  # a remote store is not asked: it would be a request a file
        found.append(
            Item(ARTIFACT, f"{one.name} {one.version}", size, _moment(one), reason, None, str(one.id))
        )
    return found


def delete_run(item: Item) -> str | None:
    """Delete a run, unless it has begun to run again; returns why it stays, or None.

    Raises:
        RetentionError: ZenML refuses.
    """
    client = Client()
    try:
        run = client.get_pipeline_run(item.key, allow_name_prefix_match=False)
    except KeyError:
        return None
    if now_running := unfinished():
        return f"{now_running[0]} is under way"
    _attempt(lambda: client.delete_pipeline_run(run.id), item)
    return None


def delete_artifact(item: Item) -> str | None:
    """Delete an artifact's files, then its record, unless a run uses it; returns why it stays, or None.

    Raises:
        RetentionError: the store cannot be reached or refuses.
    """
    client = Client()
    found = client.list_artifact_versions(id=item.key, only_unused=True, hydrate=True, size=1).items
    if not found:
        known = client.list_artifact_versions(id=item.key, size=1).items
        return "a run uses it" if known else None
    if now_running := unfinished():
        return f"{now_running[0]} is under way"
    # An interrupted gc may have deleted the files already; the store would complain.
    there = "://" in found[0].uri or Path(found[0].uri).exists()
    _attempt(lambda: client.delete_artifact_version(item.key, delete_from_artifact_store=there), item)
    return None


def _item(
    run: Any, latest: bool, settings: RetentionSettings, kept_runs: Mapping[str, str], now: float
) -> Item:
    reason = None
    if not run.status.is_finished:
        reason = f"it is {run.status.value}"
    elif run.name in kept_runs:
        reason = kept_runs[run.name]
    elif latest:
        reason = f"among the newest {settings.runs} of {_pipeline(run)}"
    else:
        reason = too_young(_moment(run), now, settings.minimum_age_days)
    return Item(RUN, run.name, 0, _moment(run), reason, None, str(run.id))


def _artifacts_of(run: Any) -> Iterator[Any]:
    for step in _pages(Client().list_run_steps, pipeline_run_id=run, hydrate=True):
        for versions in (*step.inputs.values(), *step.outputs.values()):
            yield from (one.id for one in versions)


def _runs() -> Iterator[Any]:
    return _pages(Client().list_pipeline_runs)


def _pages(listing: Callable[..., Any], **filters: Any) -> Iterator[Any]:
    page = 1
    while True:
        found = listing(page=page, size=_PAGE, sort_by="asc:created", **filters)
        yield from found.items
        if page >= found.total_pages:
            return
        page += 1


def _pipeline(run: Any) -> str:
    return "no pipeline" if run.pipeline is None else str(run.pipeline.name)


def _moment(one: Any) -> float:
    """When a record was last changed; ZenML's times are UTC without saying so."""
    moment: datetime = one.updated
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()


def _attempt(work: Callable[[], object], item: Item) -> None:
    try:
        work()
    except Exception as error:
        raise RetentionError(
            f"{item.kind} {item.name}: {type(error).__name__}: {error}; mend it and run `llara gc` again"
        ) from error
