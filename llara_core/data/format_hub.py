"""Data sets of the Hugging Face hub by id, their revision pinned.

``hf:owner/name``, ``hf:owner/name@revision`` and ``hf:owner/name@revision/folder``. What a branch or tag
meant is in the source's facts as ``commit``: give that as the revision, and the same rows come again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from llara_core.data.format_base import Format, Request
from llara_core.data.hub import download, is_repository, parse_repository, repository_source
from llara_core.data.raw import Source

logger = logging.getLogger(__name__)


def open_hub(request: Request, open_other: Callable[[Request], Source]) -> Source:
    """A repository on the hub, or the folder that one was downloaded to.

    Args:
        request: what to open; its revision counts where the id names none.
        open_other: opens a folder of another shape than a collection's, by its files.

    Raises:
        DataError: it cannot be reached, is no data set that we know, or a part is missing.
        MissingDependencyError: it holds a collection as Parquet, and ``datasets`` is not installed.
    """
    repository = parse_repository(request.place)
    if repository is None:
        folder = Path(request.place)
        return repository_source(folder, request.name, corpus_only=request.corpus_only)
    revision = repository.revision or request.revision
    found = download(repository._replace(revision=revision))
    name = request.name or repository.id.rsplit("/", maxsplit=1)[-1]
    if not repository.inside and (is_repository(found.folder) or found.judgements is not None):
        source = repository_source(
            found.folder, name, corpus_only=request.corpus_only, judgements=found.judgements
        )
    else:
        source = open_other(replace(request, place=str(found.folder / repository.inside), name=name))
    pinned = {"place": f"hf:{repository.id}", "commit": found.commit, "revision": revision}
    if revision != found.commit:
        logger.info(
            "%s is at commit %s; give it as revision for the same rows again", repository.id, found.commit
        )
    return replace(source, facts={**source.facts, **pinned})


def hub_format(open_other: Callable[[Request], Source]) -> Format:
    """The hub's format, given what opens repositories that hold files of another one."""
    return Format(
        name="hub",
        files="hf:owner/name, hf:owner/name@revision, hf:owner/name@revision/folder",
        row="hf:BeIR/scifact",
        recognised="by hf:, or owner/name where no such folder is here",
        becomes="BEIR's and mteb's layouts: the collection; others: as the format of their files",
        open=lambda request: open_hub(request, open_other),
    )
