"""Rules of a Role as triples, to compare with what is asked of the API server."""

from __future__ import annotations

from pathlib import Path

from tests.deploy.render import Manifest, named, render

BASE = Path(__file__).resolve().parents[2] / "deploy" / "kubernetes" / "base"


def allowed(role: str, kind: str = "Role") -> set[tuple[str, str, str]]:
    """What a Role of the base allows: (API group, resource, verb)."""
    return of(named(render(BASE), kind, role))


def of(role: Manifest) -> set[tuple[str, str, str]]:
    """The rules of a Role as (API group, resource, verb)."""
    return {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
