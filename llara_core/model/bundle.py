"""A model as a self-describing folder: a Hugging Face model and tokenizer, and ``llara.json`` beside them.

``llara.json`` says everything that the vectors depend on (template, slots, pooling, lengths) and where
they come from (base model, data hashes, stages with their loss curves, scores). The folder is
written beside its place and renamed, so that half a bundle never appears.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from llara_core.data.lineage import joined
from llara_core.errors import ModelError
from llara_core.model.bundle_files import check_fingerprint, checksums, compare, fingerprint, refuse_pickles
from llara_core.model.model_card import CARD_PAGE, model_card
from llara_core.model.prompts import PromptEncoder, Template

CARD_NAME = "llara.json"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Stage:
    """One stage of a model's history.

    Args:
        name: ``prepare``, ``adapt`` or ``finetune``.
        settings: the stage's settings, plain values.
        curve: logged values, one mapping a log line, each with ``step``.
        facts: anything else worth keeping (seconds, rows, tokens, whether adapters were merged).
    """

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    curve: Sequence[Mapping[str, float]] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Bundle:
    """What ``llara.json`` says about a model folder.

    Args:
        template: how texts are laid out.
        slot_ids: ``ebae`` and ``ebar`` to the ids of their slots.
        query_length: most tokens of text in a query.
        passage_length: most tokens of text in a passage.
        base_model: where the weights came from.
        attention: attention implementation, ``sdpa`` or ``eager``.
        dtype: of the weights.
        data_hashes: collection name to content hash.
        data: a record of every collection that a stage used, oldest first; see ``data.lineage``.
        history: the stages so far, oldest first.
        scores: ``<collection>/<system>/<metric>`` to value.
        fingerprint: SHA-256 over weights, tokenizer and template; set when saved.
        files: checksums of all files but ``llara.json`` and the model card; set when saved. Empty in bundles
            of older versions.
        folder: where it lies; set when saved or read.
    """

    template: Template
    slot_ids: Mapping[str, Sequence[int]]
    query_length: int
    passage_length: int
    base_model: str
    attention: str = "sdpa"
    dtype: str = "float32"
    data_hashes: Mapping[str, str] = field(default_factory=dict)
    history: tuple[Stage, ...] = ()
    scores: Mapping[str, float] = field(default_factory=dict)
    data: tuple[Mapping[str, Any], ...] = ()
    fingerprint: str = ""
    files: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    folder: Path | None = None

    def load(
        self,
        device: str | None = None,
        quantization: Literal["none", "nf4"] = "none",
        *,
        verify: bool = True,
    ) -> tuple[Any, Any]:
        """The causal language model and the tokenizer of the folder.

        Args:
            device: where the model goes; None: the CPU.
            quantization: ``nf4``: linear layers in 4 bits, frozen.
            verify: compare every file with its checksum first, see ``verify``.

        Raises:
            ModelError: a file was changed, may be a pickle, or the folder's model cannot be loaded.
            MissingDependencyError: ``nf4`` without bitsandbytes.
        """
        from llara_core.model.loading import DTYPES, load_causal_model

        if self.folder is None:
            raise ModelError("this bundle was never saved; call save_bundle first")
        refuse_pickles(self.folder)
        if verify:
            self.verify()
        with quiet_transformers():
            return load_causal_model(
                str(self.folder),
                dtype=DTYPES[self.dtype],
                attention=self.attention,
                device=device,
                quantization=quantization,
                local_files_only=True,
            )

    def verify(self) -> None:
        """Compare every file with what was written; a bundle without checksums with its fingerprint.

        Raises:
            ModelError: a file is missing, cut off or changed; names it.
        """
        if self.folder is None:
            raise ModelError("this bundle was never saved; call save_bundle first")
        if self.files:
            compare(self.folder, self.files)
        else:
            check_fingerprint(self.folder, self.template, self.fingerprint)

    def encoder(self, tokenizer: Any) -> PromptEncoder:
        """The prompt encoder of this bundle's template and lengths."""
        return PromptEncoder(self.template, tokenizer, self.query_length, self.passage_length)

    def with_stage(
        self,
        stage: Stage,
        data_hashes: Mapping[str, str] | None = None,
        *,
        data: Mapping[str, Any] | None = None,
    ) -> Bundle:
        """The same bundle with one more stage; not yet saved, and its old scores dropped.

        Args:
            stage: that was done.
            data_hashes: collection name to content hash, where no more is known.
            data: the collection it used, of ``data.lineage``; None: none that is not known already.
        """
        hashes, records = {**self.data_hashes, **(data_hashes or {})}, self.data
        if data is not None:
            hashes[data["name"]] = data["content_hash"]
            records = joined(records, data, stage.name)
        return replace(
            self, history=(*self.history, stage), data_hashes=hashes, data=records, scores={}, folder=None
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values as ``llara.json`` holds them."""
        names = self.template.ebae_slots, self.template.ebar_slots
        return {
            "format": FORMAT_VERSION,
            "template": self.template.to_dict(),
            "slot_tokens": {"ebae": list(names[0]), "ebar": list(names[1])},
            "slot_ids": {key: list(ids) for key, ids in self.slot_ids.items()},
            "pooling": self.template.pooling,
            "normalised": True,
            "query_length": self.query_length,
            "passage_length": self.passage_length,
            "base_model": self.base_model,
            "attention": self.attention,
            "dtype": self.dtype,
            "data_hashes": dict(self.data_hashes),
            "data": [dict(one) for one in self.data],
            "history": [asdict(stage) for stage in self.history],
            "scores": dict(self.scores),
            "fingerprint": self.fingerprint,
            "files": {name: dict(facts) for name, facts in self.files.items()},
        }


def save_bundle(folder: Path, model: Any, tokenizer: Any, bundle: Bundle) -> Bundle:
    """Write model, tokenizer and ``llara.json``; a folder that stands there already is replaced.

    Args:
        folder: where the bundle goes.
        model: causal language model (adapters merged).
        tokenizer: its tokenizer, slots included.
        bundle: what to write into ``llara.json``; its fingerprint is computed here.

    Returns:
        The bundle with ``fingerprint`` and ``folder`` set.

    Raises:
        ModelError: the folder cannot be written.
    """
    part = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        part.mkdir(parents=True)
        _forget_session(tokenizer)
        with quiet_transformers():
            model.save_pretrained(part)
        tokenizer.save_pretrained(part)
        for path in part.iterdir():
            path.chmod(0o644)  # safetensors writes 0600, which a server of another user cannot read
        files = checksums(part)
        saved = replace(bundle, fingerprint=fingerprint(part, bundle.template), files=files, folder=folder)
        _write_card(part, saved)
        if folder.exists():
            shutil.rmtree(folder)
        part.rename(folder)
    except OSError as error:
        raise ModelError(f"{folder}: cannot be written ({error}); choose a folder that can") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)  # gone already when the rename succeeded
    return saved


def read_bundle(folder: Path) -> Bundle:
    """What ``llara.json`` in the folder says; weights are not read.

    Raises:
        ModelError: no such folder, no ``llara.json``, or one that this version cannot read.
    """
    card = folder / CARD_NAME
    if not card.is_file():
        what = "no such folder" if not folder.is_dir() else f"no {CARD_NAME} in it, so not a bundle of ours"
        raise ModelError(f"{folder}: {what}; make one with prepare_base, `llara adapt` or `llara finetune`")
    try:
        values = json.loads(card.read_text(encoding="utf-8"))
        if values["format"] != FORMAT_VERSION:
            raise ModelError(
                f"{card}: format {values['format']}, this version reads {FORMAT_VERSION}; upgrade llara"
            )
        plain = (
            "query_length", "passage_length", "base_model", "attention", "dtype", "data_hashes", "scores",
        )  # fmt: skip
        return Bundle(
            template=Template.from_dict(values["template"]),
            slot_ids=values["slot_ids"],
            history=tuple(Stage(**stage) for stage in values["history"]),
            data=tuple(values.get("data", ())),  # bundles of older versions have hashes alone
            fingerprint=values["fingerprint"],
            files=dict(values.get("files", {})),  # bundles of older versions have a fingerprint alone
            folder=folder,
            **{key: values[key] for key in plain},
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{card}: cannot be read ({error!r}); write the bundle again") from error


def write_scores(folder: Path, scores: Mapping[str, float]) -> Bundle:
    """Add scores to the bundle's ``llara.json`` (same keys are replaced); the fingerprint stays.

    Raises:
        ModelError: the folder is no bundle.
    """
    bundle = read_bundle(folder)
    updated = replace(bundle, scores={**bundle.scores, **scores})
    _write_card(folder, updated)
    return updated


def _write_card(folder: Path, bundle: Bundle) -> None:
    text = json.dumps(bundle.to_dict(), indent=1, ensure_ascii=False, allow_nan=False)
    temporary = folder / f".{CARD_NAME}.part"
    temporary.write_text(text + "\n", encoding="utf-8")
    temporary.replace(folder / CARD_NAME)
    page = folder / f".{CARD_PAGE}.part"
    page.write_text(model_card(bundle), encoding="utf-8")
    page.replace(folder / CARD_PAGE)


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence the bars that transformers draws for every small file; ours show the work itself."""
    from transformers.utils import logging

    their_logging: Any = logging
    shown = their_logging.is_progress_bar_enabled()
    their_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            their_logging.enable_progress_bar()


def _forget_session(tokenizer: Any) -> None:
    """Drop what loading and the last call left behind: it would change the files, and the fingerprint."""
    for left in ("is_local", "local_files_only"):
        tokenizer.init_kwargs.pop(left, None)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        backend.no_truncation()
        backend.no_padding()
