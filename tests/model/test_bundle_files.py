"""Bundles on disk: every changed byte is found, and nothing that could be a pickle is opened."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import zipfile
from pathlib import Path

import pytest
import torch

from llara_core.config import ModelSettings
from llara_core.errors import ModelError
from llara_core.model.bundle import read_bundle, write_scores
from llara_core.model.bundle_files import checksums, compare
from llara_core.model.loading import load_causal_model, load_decoder
from llara_core.model.retriever import Retriever


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.target),)


@pytest.fixture
def bundle(base: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(base, tmp_path / "bundle"))


def test_all_files_have_checksums(bundle: Path) -> None:
    files = read_bundle(bundle).files
    names = {path.name for path in bundle.iterdir()}
    assert names - set(files) == {"llara.json", "README.md"}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(files)
    assert files == checksums(bundle, ("llara.json", "README.md"))
    Retriever.from_pretrained(bundle, "cpu")


def test_every_file_that_is_changed_is_named(bundle: Path) -> None:
    for name in read_bundle(bundle).files:
        path = bundle / name
        whole = path.read_bytes()
        path.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
        with pytest.raises(ModelError, match=rf"{name}: has SHA-256 .*llara rollback"):
            Retriever.from_pretrained(bundle, "cpu")
        path.write_bytes(whole[:-1])
        with pytest.raises(ModelError, match=f"{name}: has {len(whole) - 1} bytes, expected {len(whole)}"):
            Retriever.from_pretrained(bundle, "cpu")
        path.unlink()
        with pytest.raises(ModelError, match=f"{name}: is missing"):
            Retriever.from_pretrained(bundle, "cpu")
        path.write_bytes(whole)
    Retriever.from_pretrained(bundle, "cpu")


def test_a_change_after_it_was_verified_is_found(bundle: Path) -> None:
    Retriever.from_pretrained(bundle, "cpu")
    weights = bundle / "model.safetensors"
    before = weights.stat()
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns + 1))  # clocks of file systems are coarse
    with pytest.raises(ModelError, match="has SHA-256"):
        Retriever.from_pretrained(bundle, "cpu")


def test_who_asks_may_go_without(bundle: Path) -> None:
    config = bundle / "generation_config.json"
    config.write_text(config.read_text() + " ")
    with pytest.raises(ModelError):
        Retriever.from_pretrained(bundle, "cpu")
    Retriever.from_pretrained(bundle, "cpu", verify=False)


def test_scores_do_not_change_the_checksums(bundle: Path) -> None:
    files = read_bundle(bundle).files
    assert write_scores(bundle, {"tiny/base/ndcg_at_10": 0.5}).files == files
    Retriever.from_pretrained(bundle, "cpu")


def test_a_bundle_without_checksums_is_compared_with_its_fingerprint(bundle: Path) -> None:
    card = json.loads((bundle / "llara.json").read_text())
    del card["files"]
    (bundle / "llara.json").write_text(json.dumps(card))
    Retriever.from_pretrained(bundle, "cpu")
    tokenizer = bundle / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text() + " ")
    with pytest.raises(ModelError, match="are not those of the fingerprint"):
        Retriever.from_pretrained(bundle, "cpu")


@pytest.mark.parametrize(
    "name",
    ["pytorch_model.bin", "adapter_model.bin", "a.pkl", "b.PICKLE", "training_args.bin", "c.pt", "sub/d.pth",
     "e.joblib", "harmless.txt", "weights"],
)  # fmt: skip
@pytest.mark.parametrize("packing", ["plain", "zip"])
def test_a_planted_pickle_is_refused_before_it_is_opened(bundle: Path, name: str, packing: str) -> None:
    target = bundle.parent / "exploded"
    planted = bundle / name
    planted.parent.mkdir(exist_ok=True)
    if packing == "plain":
        planted.write_bytes(pickle.dumps(Bomb(target)))
    else:
        with zipfile.ZipFile(planted, "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps(Bomb(target)))
    with pytest.raises(ModelError, match=r"is a pickle or may be one.*nothing of this bundle was loaded"):
        Retriever.from_pretrained(bundle, "cpu", verify=False)
    assert not target.exists()


def test_the_planted_pickle_would_have_gone_off(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Bomb(tmp_path / "exploded")))
    assert (tmp_path / "exploded").exists()


@pytest.mark.parametrize("weights", ["pytorch_model.bin", "pytorch_model-00001-of-00001.bin"])
def test_a_base_model_of_pickled_weights_is_refused(bundle: Path, weights: str) -> None:
    target = bundle.parent / "exploded"
    (bundle / "model.safetensors").unlink()
    (bundle / weights).write_bytes(pickle.dumps(Bomb(target)))
    with pytest.raises(ModelError, match=r"its weights are pickled .*take the safetensors"):
        load_decoder(ModelSettings(base=str(bundle)))
    with pytest.raises(ModelError):
        load_causal_model(str(bundle), dtype=torch.float32, attention="sdpa", local_files_only=True)
    assert not target.exists()


def test_code_in_a_bundle_is_not_run(bundle: Path) -> None:
    target = bundle.parent / "ran"
    code = f"import os\nos.mkdir({str(target)!r})\n"
    for name in ("modeling_planted.py", "configuration_planted.py", "tokenization_planted.py"):
        (bundle / name).write_text(code)
    config = json.loads((bundle / "config.json").read_text())
    config["auto_map"] = {
        "AutoConfig": "configuration_planted.Planted", "AutoModelForCausalLM": "modeling_planted.Planted",
    }  # fmt: skip
    (bundle / "config.json").write_text(json.dumps(config))
    tokenizer = json.loads((bundle / "tokenizer_config.json").read_text())
    tokenizer["auto_map"] = {"AutoTokenizer": ["tokenization_planted.Planted", None]}
    (bundle / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    with pytest.raises(ModelError, match=r"config\.json: has"):
        Retriever.from_pretrained(bundle, "cpu")
    Retriever.from_pretrained(bundle, "cpu", verify=False)  # transformers' own code, as its type says
    config["model_type"] = "planted"  # of which transformers knows nothing
    (bundle / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError):
        Retriever.from_pretrained(bundle, "cpu", verify=False)
    assert not target.exists()


def test_an_empty_list_of_files_compares_nothing(tmp_path: Path) -> None:
    compare(tmp_path, {})
