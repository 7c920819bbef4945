"""``llara verify``: is what lies on the disk what was written?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llara_core.errors import ConfigError


def verify(
    folders: Annotated[list[Path], typer.Argument(help="Bundles, exports, indexes, pairs or live stores.")],
) -> None:
    """Compare every byte of bundles, indexes and live pairs with its checksum; nothing is loaded."""
    for folder in folders:
        typer.echo(f"ok  {folder}: {_verified(folder.expanduser())}")


def _verified(folder: Path) -> str:
    """What the folder is, in words, once it has been compared.

    Raises:
        ConfigError: it is none of these.
        DataError, ModelError, LiveError: it is damaged.
    """
    from llara_core.model.bundle import CARD_NAME
    from llara_core.model.export import RECORD, verify_export
    from llara_core.operations.live_pair import FACTS
    from llara_core.operations.live_pointer import POINTER
    from llara_core.retrieval.index_files import MANIFEST

    if (folder / RECORD).is_file():
        record = verify_export(folder)
        return f"export for {record['target']} of {record['fingerprint'][:20]} ({len(record['files'])} files)"
    if (folder / CARD_NAME).is_file():
        return _bundle(folder)
    if (folder / MANIFEST).is_file():
        return _index(folder)
    if (folder / FACTS).is_file():
        return _pair(folder)
    if (folder / POINTER).is_file():
        from llara_core.operations.live import LiveStore

        pairs = LiveStore(folder).generations()
        for pair in pairs:
            _pair(pair.folder)
        return f"live store of {len(pairs)} pairs"
    raise ConfigError(
        f"{folder}: nothing to verify; expected a folder with {CARD_NAME} (a bundle), {RECORD} (an export), "
        f"{MANIFEST} (an index), {FACTS} (a pair) or {POINTER} (a live store)"
    )


def _bundle(folder: Path) -> str:
    from llara_core.model.bundle import read_bundle
    from llara_core.model.bundle_files import check_fingerprint, refuse_pickles

    bundle = read_bundle(folder)
    refuse_pickles(folder)
    bundle.verify()
    check_fingerprint(folder, bundle.template, bundle.fingerprint)
    what = f"{len(bundle.files)} files" if bundle.files else "fingerprint alone, written by an older version"
    return f"bundle {bundle.fingerprint[:20]} ({what})"


def _index(folder: Path) -> str:
    from llara_core.retrieval.index import Index
    from llara_core.retrieval.index_state import describe

    return f"index, {describe(Index.open(folder, verify=True).manifest)}"


def _pair(folder: Path) -> str:
    from llara_core.operations.live_pair import Pair
    from llara_core.operations.live_staging import check_pair

    pair = Pair.read(folder)
    _bundle(pair.model)
    check_pair(pair)
    return f"pair of version {pair.version} and {pair.documents} documents"
