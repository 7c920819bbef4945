"""What a cached step result depends on: every file of ours that its code can reach by import.

ZenML's cache key covers the source of the step function alone, so an edited library would go
unnoticed. ``policy`` adds the transitive import closure of the step's file.
"""

from __future__ import annotations

import ast
import uuid
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from zenml.config.cache_policy import CachePolicy

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("llara_core", "llara_mlflow", "steps")


def policy(step_file: str, *data: str) -> CachePolicy:
    """The cache policy of the step in ``step_file``.

    Args:
        step_file: ``__file__`` of the step.
        data: files or folders relative to the checkout that the step reads as part of its code
            (templates, expectation suites).
    """
    files = closure(Path(step_file).resolve())
    for name in data:
        place = ROOT / name
        found = [place] if place.is_file() else [path for path in place.rglob("*") if path.is_file()]
        if not found:
            raise FileNotFoundError(f"{place}: the cache of {step_file} is told to depend on it")
        files += sorted(path.relative_to(ROOT).as_posix() for path in found)
    # Inputs count by content, so that a re-made identical artifact still hits; ZenML falls back
    # on the id only for artifacts that have no content hash.
    return CachePolicy(file_dependencies=files)


def never() -> CachePolicy:
    """The policy of a step that looks at the world outside: its result is never taken from the cache.

    ``enable_cache=False`` of a step is not enough: ``enable_cache: true`` in a run configuration wins.
    """
    return CachePolicy(cache_func=_always_new)


def _always_new() -> str:
    return uuid.uuid4().hex


def closure(start: Path, root: Path = ROOT) -> list[str]:
    """Files reachable from ``start`` by import, itself included, sorted, relative to ``root``.

    Imports inside functions count; those under ``if TYPE_CHECKING`` do not, they never run. The
    ``__init__`` of a package on the way is included but followed only when a name is imported
    from the package itself, because ours load their public names on use.
    """
    found: set[Path] = set()
    waiting = [start]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        for module in _imported_modules(path, root):
            parts = module.split(".")
            found.update(
                package
                for depth in range(1, len(parts))
                if (package := root.joinpath(*parts[:depth], "__init__.py")).is_file()
            )
            if target := _module_file(module, root):
                waiting.append(target)
    return sorted(path.relative_to(root).as_posix() for path in found)


@cache
def _parsed(path: Path, changed: int) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def _imported_modules(path: Path, root: Path) -> Iterator[str]:
    """Names of our modules that the file imports, as far as they exist."""
    package = path.relative_to(root).with_suffix("").parts[:-1]
    for node in _running_nodes(_parsed(path, path.stat().st_mtime_ns)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] in PACKAGES)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            if base.split(".")[0] not in PACKAGES:
                continue
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield inner if _module_file(inner, root) else base


def _running_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes below, except what stands under ``if TYPE_CHECKING``."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            for other in child.orelse:
                yield other
                yield from _running_nodes(other)
            continue
        yield child
        yield from _running_nodes(child)


def _module_file(module: str, root: Path) -> Path | None:
    base = root.joinpath(*module.split("."))
    for candidate in (base.with_suffix(".py"), base / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None
