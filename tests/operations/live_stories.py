"""Stores of pairs with a model that costs nothing, and what a process may do to them before it is killed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from llara_core.model.bundle import CARD_NAME, read_bundle
from llara_core.model.bundle_files import checksums, fingerprint
from llara_core.model.model_card import CARD_PAGE
from llara_core.operations.live import LiveStore, Pair
from llara_core.operations.live_staging import Staged, check_pair, stage
from llara_core.retrieval.index import Index, IndexSettings
from tests.oracles.fake_encoder import FakeEncoder

IDS = [f"d{number}" for number in range(12)]
PASSAGES = [f"passage {number} about matter {number % 4}" for number in range(12)]
REVISED = [f"{text} revised" if place < 3 else text for place, text in enumerate(PASSAGES)]


class Recorder:
    """Gives encoders for bundles, and remembers them."""

    def __init__(self) -> None:
        self.made: list[FakeEncoder] = []

    def __call__(self, folder: Path) -> FakeEncoder:
        self.made.append(FakeEncoder(32, read_bundle(folder).fingerprint))
        return self.made[-1]

    @property
    def encoded(self) -> int:
        return sum(one.passages_encoded for one in self.made)


def other_bundle(source: Path, target: Path) -> Path:
    """A copy of a bundle with another tokenizer file, so another fingerprint."""
    shutil.copytree(source, target)
    (target / "tokenizer_note.txt").write_text(target.name, encoding="utf-8")
    card = json.loads((target / "llara.json").read_text(encoding="utf-8"))
    card["fingerprint"] = fingerprint(target, read_bundle(target).template)
    card["files"] = checksums(target, (CARD_NAME, CARD_PAGE))
    (target / "llara.json").write_text(json.dumps(card), encoding="utf-8")
    return target


def staged(
    store: Path, bundle: Path, version: str, passages: list[str] | None = None, load: Recorder | None = None
) -> Staged:
    texts = PASSAGES if passages is None else passages
    return stage(
        LiveStore(store), bundle, version, IDS, texts, IndexSettings(kind="flat"), load or Recorder()
    )


def serve(store: Path, bundle: Path, version: str, passages: list[str] | None = None) -> Staged:
    """Make a pair and let it serve."""
    found, live = staged(store, bundle, version, passages), LiveStore(store)
    present = live.current()
    live.cutover(found.pair, None if present is None else present.name, "the test says so")
    return found


def check_whole(store: LiveStore) -> str:
    """Compare every byte of what serves; returns the generation."""
    pair = store.current()
    assert pair is not None
    check_pair(pair)
    index = Index.open(pair.index, verify=True)
    assert (index.manifest["fingerprint"]["corpus"], len(index)) == (pair.corpus, pair.documents)
    return pair.name


def whole(folder: Path) -> str:
    """Compare every byte of what serves, search with it, and return the generation."""
    name = check_whole(LiveStore(folder))
    pair = Pair.read(folder / name)
    encoder = FakeEncoder(32, pair.fingerprint)
    index = Index.open(pair.index)
    _, rows = index.search(encoder.encode_queries([PASSAGES[7]]), 1, encoder)
    assert index.id_of(rows[0, 0]) == "d7"
    return name


def new_model(store: Path, bundles: Path) -> None:
    """A new champion goes live."""
    serve(store, bundles / "two", "2")


def new_corpus(store: Path, bundles: Path) -> None:
    """The corpus has changed; the model is the same."""
    serve(store, bundles / "one", "1", REVISED)


def back(store: Path, bundles: Path) -> None:
    """The pair before is brought back."""
    if LiveStore(store).previous() is not None:
        LiveStore(store).rollback("empty answers")


STORIES = {"new_model": new_model, "new_corpus": new_corpus, "back": back}
