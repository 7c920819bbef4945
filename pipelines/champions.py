"""The champion and the corpus it was judged on, at a place that a person can type."""

from __future__ import annotations

import shlex
import sys
import uuid
from pathlib import Path

from pipelines.environment import local_folder
from steps.workspace import vectors_folder

QUESTION = "your question"
_USUAL_MODEL, _USUAL_COLLECTION = "llara-retriever", "pycode"  # of configs/indexing.yaml's training


def search_command(name: str, model: Path, collection: Path) -> str | None:
    """Link the champion below ``.local/champions/<name>`` and return a command that searches with it.

    The vectors of the corpus are those that the evaluation of the run has kept, so already the first
    search is quick.

    Args:
        name: of the registered model.
        model: folder of the bundle that became champion.
        collection: folder of the collection it was judged on.

    Returns:
        The command, or None where model or collection lie in a store elsewhere and were only fetched.
    """
    local, vectors = local_folder(), vectors_folder()
    if vectors is None or not all(path.resolve().is_relative_to(local) for path in (model, collection)):
        return None
    place = local / "champions" / name
    place.mkdir(parents=True, exist_ok=True)
    for link, target in (("model", model), ("collection", collection)):
        _link(place / link, target.resolve())
    words = [
        Path(sys.prefix) / "bin" / "llara", "search", "--model", place / "model", "--data",
        place / "collection", "--cache", vectors,
    ]  # fmt: skip
    return f'{shlex.join(_typed(word) for word in words)} "{QUESTION}"'


def serve_command(name: str, collection: str) -> str:
    """The command that serves the champion, a search page and an HTTP service; its links are made already.

    Args:
        name: of the registered model.
        collection: name of the collection it was judged on. That of ``configs/indexing.yaml`` is served from
            the live store, which follows the champion; another one as it lies.
    """
    words: list[Path | str] = [Path(sys.prefix) / "bin" / "llara", "serve"]
    if (name, collection) != (_USUAL_MODEL, _USUAL_COLLECTION):
        place = local_folder() / "champions" / name
        words += ["--model", place / "model", "--data", place / "collection"]
    return shlex.join(_typed(word) for word in words)


def _link(link: Path, target: Path) -> None:
    """Point the link at the target, replacing an older link in one step."""
    temporary = link.with_name(f".{link.name}.{uuid.uuid4().hex[:8]}")
    temporary.symlink_to(target)
    temporary.replace(link)


def _typed(word: Path | str) -> str:
    """A path below the working directory as one would type it."""
    if isinstance(word, Path) and word.is_relative_to(Path.cwd()):
        return str(word.relative_to(Path.cwd()))
    return str(word)
