"""A bundle for other people's tools: what each target holds, written whole or not at all.

    sentence-transformers   ``SentenceTransformer(folder)``: its own modules alone, no code to trust
    merged                  the bundle itself, bit by bit: ``AutoModelForCausalLM``, and llara_core still
    adapter                 what training changed, as a peft adapter on the base model
    onnx                    a graph from ids to vectors, for onnxruntime; int8 on request

Every folder has a model card, and ``export.json``: where it comes from, how it was checked, and the checksum
of every file. What is written is compared with what the bundle computes before the folder appears.
Source: issue 7, point 5.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llara_core import __version__
from llara_core.environment import git_state
from llara_core.errors import ConfigError, DataError, ModelError
from llara_core.files import check_writable, new_folder
from llara_core.model.bundle import CARD_NAME, Bundle, read_bundle
from llara_core.model.bundle_files import checksums, compare, refuse_pickles
from llara_core.model.export_card import Score, export_card
from llara_core.model.model_card import CARD_PAGE
from llara_core.settings import nearest

RECORD = "export.json"
FORMAT_VERSION = 1
TARGETS = ("sentence-transformers", "merged", "adapter", "onnx")

Measure = Callable[[Path, Bundle], tuple[Sequence[Score], Mapping[str, Any]]]


@dataclass(frozen=True)
class ExportOptions:
    """What an export may be told.

    Args:
        base: folder or hub id of the base model: what an adapter stands on, and whose licence is looked up.
            None: what the bundle says.
        int8: write the quantised graph beside the other; ``onnx`` alone.
        scores: to go into the card beside the bundle's own.
    """

    base: str | None = None
    int8: bool = False
    scores: Sequence[Score] = field(default=())


def export_bundle(
    source: Path,
    target: str,
    output: Path,
    *,
    force: bool = False,
    options: ExportOptions | None = None,
    measure: Measure | None = None,
) -> dict[str, Any]:
    """Write a bundle for another library.

    Args:
        source: the bundle's folder; every file of it is compared with its checksum first.
        target: one of ``TARGETS``.
        output: the folder to make.
        force: replace an earlier export that stands there.
        options: see the class.
        measure: given the folder before it is finished, judges what is in it; gives scores for the card and
            facts for ``export.json``.

    Returns:
        What ``export.json`` holds.

    Raises:
        ConfigError: no such target, or an option that the target does not take.
        DataError: the output cannot be written, or something stands there.
        ModelError: the bundle is damaged, or what was written does not give its vectors.
        MissingDependencyError: the target needs a package that is not installed.
    """
    options = options or ExportOptions()
    _check_options(target, options)
    _check_output(source, output, force)
    bundle = read_bundle(source)
    refuse_pickles(source)
    bundle.verify()
    with new_folder(output, replace=(RECORD,)) as part:
        facts = dict(_writer(target)(part, bundle, options))
        scores = list(options.scores)
        if measure is not None:
            measured, told = measure(part, bundle)
            scores, facts = [*scores, *measured], {**facts, **told}
        page = export_card(bundle, target, facts, scores, options.base)
        (part / CARD_PAGE).write_text(page, encoding="utf-8")
        for path in part.rglob("*"):
            if path.is_file():
                path.chmod(0o644)  # safetensors writes 0600, which a server of another user cannot read
        record = _record(bundle, target, facts, scores)
        record["files"] = checksums(part)
        text = json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False)
        (part / RECORD).write_text(text + "\n", encoding="utf-8")
    return record


def verify_export(folder: Path) -> dict[str, Any]:
    """Compare every file of an export with its checksum; returns what ``export.json`` holds.

    Raises:
        ModelError: the folder is no export, or a file is missing or was changed; names it.
    """
    try:
        record: dict[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        files = record["files"]
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{folder / RECORD}: cannot be read ({error!r}); export the bundle again") from error
    compare(folder, files)
    return record


def _check_options(target: str, options: ExportOptions) -> None:
    if target not in TARGETS:
        raise ConfigError(
            f"--to {target}: no such target{nearest(target, list(TARGETS))}; expected one of "
            f"{', '.join(TARGETS)}"
        )
    if options.int8 and target != "onnx":
        raise ConfigError(f"--int8: goes with --to onnx, got --to {target}; leave it out")


def _check_output(source: Path, output: Path, force: bool) -> None:
    here, there = source.resolve(), output.resolve()
    if here == there or here in there.parents or there in here.parents:
        raise ConfigError(
            f"{output}: is the bundle, lies in it or holds it; choose a folder beside it for the export"
        )
    if output.is_dir() and any(output.iterdir()) and not force:
        raise DataError(
            "the folder exists already; choose another one, or replace an earlier export with --force",
            file=output,
            rule="writable",
        )
    check_writable(output)


def _writer(target: str) -> Callable[[Path, Bundle, ExportOptions], Mapping[str, Any]]:
    return {
        "sentence-transformers": _sentence_transformers,
        "merged": _merged,
        "adapter": _adapter,
        "onnx": _onnx,
    }[target]


def _sentence_transformers(part: Path, bundle: Bundle, options: ExportOptions) -> Mapping[str, Any]:
    from llara_core.model.export_sentence_transformers import write_sentence_transformers

    write_sentence_transformers(part, bundle, *bundle.load(verify=False))
    return {"custom_code": False}


def _merged(part: Path, bundle: Bundle, options: ExportOptions) -> Mapping[str, Any]:
    """The files of the bundle as they are: its adapters were merged when it was saved."""
    folder = _folder(bundle)
    # What else lies there is none of the bundle's; older bundles do not say what is.
    names = [*bundle.files, CARD_NAME] if bundle.files else list(checksums(folder, (CARD_PAGE,)))
    for name in names:
        (part / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / name, part / name)
    from llara_core.model.export_tokenizers import prompt_facts

    return {
        "weights": "the bundle's own, bit by bit",
        "prompt": prompt_facts(bundle.encoder(_tokenizer(bundle))),
    }


def _adapter(part: Path, bundle: Bundle, options: ExportOptions) -> Mapping[str, Any]:
    from llara_core.model.export_adapter import write_adapter

    return write_adapter(part, bundle, options.base)


def _onnx(part: Path, bundle: Bundle, options: ExportOptions) -> Mapping[str, Any]:
    from llara_core.model.export_onnx import write_onnx

    return write_onnx(part, bundle, int8=options.int8)


def _tokenizer(bundle: Bundle) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(_folder(bundle), local_files_only=True)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{bundle.folder}: its tokenizer cannot be loaded ({error}); write it again"
        ) from error


def _folder(bundle: Bundle) -> Path:
    if bundle.folder is None:
        raise ModelError("this bundle was never saved; call save_bundle first")
    return bundle.folder


def _record(bundle: Bundle, target: str, facts: Mapping[str, Any], scores: Sequence[Score]) -> dict[str, Any]:
    git = git_state(Path(__file__).resolve().parents[2])
    return {
        "format": FORMAT_VERSION,
        "target": target,
        "fingerprint": bundle.fingerprint,
        "llara": __version__,
        "git": None if git is None else {"commit": git["commit"], "dirty": git["dirty"]},
        "facts": dict(facts),
        "scores": [score.to_dict() for score in scores],
    }
