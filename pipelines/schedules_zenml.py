"""Schedules of stacks whose orchestrator schedules: through ZenML's ``Schedule``.

ZenML gives no time zone to Kubernetes, whose controller then takes its own, usually UTC. So the CronJob is
told the zone right after it is made (``spec.timeZone``, Kubernetes 1.27 or newer); other orchestrators are
given schedules in UTC alone.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any

from llara_core.errors import ConfigError, LlaraError
from llara_core.operations import schedules
from llara_core.operations.schedules_tick import utc_now
from llara_core.operations.schedules_times import next_times, parse_cron
from llara_core.schedule_settings import ScheduleSettings
from pipelines import environment, schedules_cron

logger = logging.getLogger(__name__)

_CRON_JOB = "cron_job_name"  # metadata of a schedule on Kubernetes
_UTC = ("UTC", "Etc/UTC", "Etc/UCT", "Zulu", "Etc/Zulu", "UCT", "Universal", "Etc/Universal")


def scheduler(stack: str) -> str:
    """``zenml`` where the stack's orchestrator schedules, else ``cron``.

    Raises:
        ConfigError: there is no such stack.
    """
    return "zenml" if _orchestrator(stack).config.is_schedulable else "cron"


def apply(wanted: Mapping[str, ScheduleSettings]) -> list[str]:
    """Make ZenML's schedules of ours what is wanted; returns what changed, in words.

    A new one is made before the old one goes: killed in between there are two for a while, and the lock of
    the retraining lets one of their runs work; the next apply removes the old one.
    """
    names = {name: _stored(name, settings) for name, settings in wanted.items()}
    present = _present()
    active = {schedules.schedule_of(stored): one.active for stored, one in present.items()}
    flags = {stored: bool(one.active) for stored, one in present.items()}
    # One that was paused by command stays paused; a file that says so pauses it.
    paused = {name: True for name, one in wanted.items() if one.paused}
    made = schedules.plan(names, paused, flags)
    changes = []
    for stored, name in made.create.items():
        _create(stored, wanted[name])
        if wanted[name].paused or active.get(name) is False:
            _set_active(stored, False)
        changes.append(f"{name}: {'updated' if name in active else 'created'}")
    for stored in made.pause:
        _set_active(stored, False)
        changes.append(f"{schedules.schedule_of(stored)}: paused, as its file says")
    for stored in made.delete:
        _delete(stored)
        if (gone := schedules.schedule_of(stored)) not in wanted:
            changes.append(f"{gone}: removed, its file is gone")
    for stored in (*made.keep, *made.pause, *made.resume):
        settings = wanted[str(schedules.schedule_of(stored))]
        if _set_time_zone(stored, settings):
            changes.append(f"{schedules.schedule_of(stored)}: time zone mended")
    return changes


def delete(name: str) -> None:
    """Remove every schedule of a name."""
    for stored in _of(name):
        _delete(stored)


def turn(name: str, paused: bool) -> bool:
    """Pause or resume; returns whether that changed anything."""
    present, changed = _present(), False
    for stored in _of(name):
        if bool(present[stored].active) == paused:
            _set_active(stored, not paused)
            changed = True
    return changed


def rows(wanted: Mapping[str, ScheduleSettings]) -> list[dict[str, Any]]:
    """What `list` shows of each schedule."""
    present, found = _present(), []
    for name, settings in wanted.items():
        one = present.get(_stored(name, settings))
        state = "active" if one is not None and one.active else "paused"
        if one is None:
            differs = any(schedules.schedule_of(stored) == name for stored in present)
            state = "differs from its file; `llara schedule apply` mends that" if differs else "not applied"
        upcoming = (
            next_times(parse_cron(settings.cron), settings.zone, utc_now()) if state == "active" else []
        )
        found.append(
            {
                "name": name, "state": state, "cron": settings.cron, "timezone": settings.timezone,
                "by": f"ZenML on {settings.stack}",
                "next": schedules_cron.in_words(upcoming[0], settings) if upcoming else None,
                "last": None, "command": f"{settings.pipeline} {settings.config}",
            }
        )  # fmt: skip
    return found


def _stored(name: str, settings: ScheduleSettings) -> str:
    return schedules.stored_name(name, settings, (environment.REPOSITORY / settings.config).read_bytes())


def _client() -> Any:
    environment.apply()
    from zenml.client import Client

    return Client()


def _orchestrator(stack: str) -> Any:
    client = _client()
    from zenml.stack import Stack

    from pipelines import stacks

    return Stack.from_model(client.get_stack(stacks.stack_id(stack))).orchestrator


def _present() -> dict[str, Any]:
    """Schedules of ours in the active project, by stored name; archived ones are gone."""
    client, found, page = _client(), {}, 1
    while True:
        answer = client.list_schedules(page=page, size=100, hydrate=True, is_archived=False)
        found.update({one.name: one for one in answer.items if schedules.schedule_of(one.name) is not None})
        if page >= answer.total_pages:
            return found
        page += 1


def _of(name: str) -> list[str]:
    found = [stored for stored in _present() if schedules.schedule_of(stored) == name]
    if not found:
        raise ConfigError(f"{name}: ZenML has no such schedule; `llara schedule apply` makes it")
    return found


def _create(stored: str, settings: ScheduleSettings) -> None:
    client = _client()
    from zenml.config.schedule import Schedule

    from pipelines import stacks
    from pipelines.__main__ import _pipeline

    orchestrator = _orchestrator(settings.stack)
    if settings.timezone not in _UTC and orchestrator.flavor != "kubernetes":
        raise ConfigError(
            f"timezone: {settings.timezone}: only the Kubernetes orchestrator can be told a time zone, stack "
            f"{settings.stack!r} has {orchestrator.flavor!r}: write the times in UTC, with timezone: UTC"
        )
    os.environ["ZENML_ACTIVE_STACK_ID"] = stacks.stack_id(settings.stack)
    _, pipeline = _pipeline(settings.pipeline)
    schedule = Schedule(name=stored, cron_expression=parse_cron(settings.cron).text, catchup=False)
    config = str(environment.REPOSITORY / settings.config)
    try:
        pipeline.with_options(config_path=config, schedule=schedule)()
    except (KeyError, ValueError, RuntimeError) as error:  # a variable not set, a stack that is not whole
        raise LlaraError(f"{config}: ZenML cannot make the schedule: {error}") from error
    if not client.list_schedules(name=stored).items:
        raise LlaraError(f"schedule {stored}: ZenML has not kept it; see its messages above")
    _set_time_zone(stored, settings)


def _set_time_zone(stored: str, settings: ScheduleSettings) -> bool:
    """Tell a CronJob its zone, and how late it may start, where it does not have them; whether it had to."""
    schedule = _present()[stored]
    job = schedule.run_metadata.get(_CRON_JOB)
    if job is None:
        return False
    orchestrator = _orchestrator(settings.stack)
    batch, namespace = orchestrator._k8s_batch_api, orchestrator.config.kubernetes_namespace
    deadline = settings.grace_minutes * 60
    now = batch.read_namespaced_cron_job(name=job, namespace=namespace).spec
    if now.time_zone == settings.timezone and now.starting_deadline_seconds == deadline:
        return False
    spec = {"timeZone": settings.timezone, "startingDeadlineSeconds": deadline}
    batch.patch_namespaced_cron_job(name=job, namespace=namespace, body={"spec": spec})
    return True


def _set_active(stored: str, active: bool) -> None:
    updated = _client().update_schedule(stored, active=active)
    if bool(updated.active) != active:
        raise LlaraError(
            f"{stored}: the orchestrator cannot pause schedules; `llara schedule delete` removes it instead"
        )


def _delete(stored: str) -> None:
    _client().delete_schedule(stored)
