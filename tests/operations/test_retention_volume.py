"""What ``llara gc --volume`` may delete of a volume that pods on other nodes use: their age protects it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from llara_core.operations.retention import Use
from llara_core.operations.retention_files import volume_items
from llara_core.operations_settings import RetentionSettings
from tests.retention_folders import NOW, aged, folder, vectors

EAGER = RetentionSettings(volume_days=1)

NAME = "finetune-0123456789abcdef"
PLACES = {
    "vectors": f"vectors/{'a' * 20}-{'b' * 20}-float32",
    "vectors half done": f"vectors/.{'a' * 20}-{'b' * 20}-float16.partial",
    "BM25 index": f"vectors/bm25-{'a' * 20}",
    "vectors of ticks": f"ticks/vectors/{'a' * 20}-{'b' * 20}-float32",
    "work of ticks": "ticks/work/judged-0123456789ab",
    "checkpoints": "adapt/run-0123456789ab",
    "request": f"requests/{NAME}",
    "shards": f"shards/{'0123456789' * 2}",
    "fetched model": f"llara/registry/{'a' * 16}/retriever-{'b' * 16}/3-0123456789abcdef",
}


def reasons(volume: Path, settings: RetentionSettings = EAGER) -> dict[str, str | None]:
    return {
        str(item.path and item.path.relative_to(volume)): item.keep
        for item in volume_items(volume, settings, Use(), NOW)
    }


@pytest.mark.parametrize("place", PLACES.values(), ids=list(PLACES))
def test_what_is_old_goes_and_what_is_young_stays(tmp_path: Path, place: str) -> None:
    made = folder(tmp_path / place)
    assert reasons(tmp_path) == {place: None}
    aged(made, 0.9)
    assert reasons(tmp_path) == {place: "younger than 1 days"}


def test_what_no_run_makes_is_no_part_of_the_list(tmp_path: Path) -> None:
    for name in (
        "vectors/notes", "adapt/best", "requests/thesis", "shards/mine", "ticks/ticks/2026", "ticks/locks",
        "lost+found", "run-0123456789ab",
    ):  # fmt: skip
        folder(tmp_path / name)
    (tmp_path / "llara-retriever.lock").touch()
    assert reasons(tmp_path) == {}


@pytest.mark.parametrize("checkpoints", ["adapt", NAME])
def test_a_request_is_as_young_as_the_checkpoints_of_its_training(tmp_path: Path, checkpoints: str) -> None:
    """Its inputs are read when the pods start; one that starts again after a week still finds them."""
    request = folder(tmp_path / "requests" / NAME)
    (request / "request.json").write_text(json.dumps({"checkpoints": checkpoints}))
    aged(request, 100)
    folder(tmp_path / checkpoints / "run-0123456789ab", days=0.5)
    assert reasons(tmp_path)[f"requests/{NAME}"] == "younger than 1 days"
    aged(tmp_path / checkpoints, 2)
    assert reasons(tmp_path)[f"requests/{NAME}"] is None


@pytest.mark.parametrize("said", ["", "[]", "{}", '{"checkpoints": 7}', '{"checkpoints": "../../elsewhere"}'])
def test_a_request_that_says_nothing_goes_by_its_own_age(tmp_path: Path, said: str) -> None:
    request = folder(tmp_path / "requests" / NAME)
    (request / "request.json").write_text(said)
    aged(request, 100)
    assert reasons(tmp_path) == {f"requests/{NAME}": None}


def test_vectors_that_a_step_has_used_lately_stay(tmp_path: Path) -> None:
    """On a share nobody keeps note of reading, so the step that takes them marks them."""
    made = vectors(tmp_path)
    os.utime(made, (NOW, NOW))
    assert list(reasons(tmp_path).values()) == ["younger than 1 days"]


def test_less_than_a_day_is_refused() -> None:
    with pytest.raises(ValueError, match="volume_days"):
        RetentionSettings(volume_days=0.5)


def test_what_is_open_here_and_what_is_named_stays(tmp_path: Path) -> None:
    used, named = folder(tmp_path / PLACES["shards"]), folder(tmp_path / PLACES["checkpoints"])
    settings = EAGER.model_copy(update={"keep": ("adapt",)})
    found = {
        one.path: one.keep for one in volume_items(tmp_path, settings, Use({used.resolve(): "busy"}), NOW)
    }
    assert found == {used: "busy", named: "retention.keep names adapt"}


def test_links_are_never_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    folder(elsewhere / "run-0123456789ab")
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "adapt").symlink_to(elsewhere)
    (volume / "vectors").symlink_to(elsewhere)
    assert reasons(volume) == {}
