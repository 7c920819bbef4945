"""Frozen, validated settings of every stage; the YAML files under ``configs/`` hold exactly these.

One class a stage. A key that is unknown, mistyped or out of range stops with a ``ConfigError``
that names the place, the value and the nearest known key: ZenML itself only warns, or says nothing.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    model_validator,
)
from typing_extensions import Self

from llara_core.data_settings import (
    DuplicateSettings,
    IngestSettings,
    LeakSettings,
    PassageSettings,
    RulePolicy,
)
from llara_core.errors import ConfigError
from llara_core.launch_settings import LaunchSettings
from llara_core.mining_settings import MineSettings, ShareSettings, VetoSettings
from llara_core.promotion_settings import PromoteSettings
from llara_core.settings import Settings
from llara_core.training_settings import AdaptSettings, FinetuneSettings, LoraSettings, OptimizerSettings

__all__ = [
    "AdaptSettings", "AdaptationSettings", "Bm25Settings", "CollectionSettings", "DuplicateSettings",
    "EvaluateSettings", "FinetuneSettings", "FromScratchSettings", "IngestSettings", "LaunchSettings",
    "LeakSettings", "LoraSettings", "MineSettings", "ModelSettings", "OptimizerSettings", "PassageSettings",
    "PromoteSettings", "PycodeSettings", "RegistrySettings", "ShareSettings", "TemplateSettings",
    "TextSettings", "TrainingSettings", "VetoSettings",
]  # fmt: skip

DEFAULT_PACKAGES = (
    "SQLAlchemy", "datasets", "fonttools", "great_expectations", "huggingface_hub", "matplotlib", "mlflow",
    "networkx", "numpy", "pandas", "peft", "scikit-learn", "scipy", "sympy", "torch", "zenml",
)  # fmt: skip


REGISTRY = "models:/"  # how a reference into MLflow's model registry begins: /NAME@ALIAS or /NAME/NUMBER


class PycodeSettings(Settings):
    """The built-in collection: functions of installed packages, searched by their docstrings."""

    packages: tuple[str, ...] = Field(DEFAULT_PACKAGES, min_length=1)  # installed distributions
    max_functions: int = Field(20_000, ge=10)  # whole modules are kept until it is reached
    test_queries: PositiveInt = 1_500
    dev_queries: NonNegativeInt = 500
    min_query_words: PositiveInt = 4  # of the docstring's summary sentence
    max_query_words: PositiveInt = 40
    min_code_words: PositiveInt = 12
    max_code_chars: int = Field(6_000, ge=100)  # longer functions are left out whole
    duplicate_threshold: float = Field(0.7, ge=0.6, le=1.0)  # Jaccard of the source's word 3-grams
    query_duplicate_threshold: float = Field(0.7, ge=0.6, le=1.0)  # Jaccard of word sets
    seed: NonNegativeInt = 0  # draws the modules and the splits


class CollectionSettings(Settings):
    """Where the text comes from: ``pycode``, or a place in any format of ``llara_core.data.formats.FORMATS``.

    A place is a folder, a file, a zip, a Hugging Face id (``hf:owner/name``) or a URL that fsspec opens
    (``s3://bucket/folder``). ``~`` and variables are expanded.
    """

    source: str = "pycode"
    name: str | None = None
    format: str = "auto"  # a key of FORMATS (`llara data formats` lists them); auto: told from the files
    columns: dict[str, str] = Field({})  # ours → the file's, e.g. {id: doc_id, text: body}
    revision: str | None = None  # of a Hugging Face data set: a commit, so that the same rows come again
    # Share of judgements that may name unknown queries or documents: ArguAna's official qrels have 0.4%.
    unresolved_share: float = Field(0.0, ge=0.0, le=1.0)
    ingest: IngestSettings = IngestSettings()  # what is done with rows that break a rule
    passages: PassageSettings | None = None  # cut long documents into passages of so many tokens
    duplicates: DuplicateSettings = DuplicateSettings()  # documents that say the same
    leaks: LeakSettings = LeakSettings()  # evaluation queries and their passages that training shows
    pycode: PycodeSettings = PycodeSettings()

    @property
    def place(self) -> str | None:
        """The path, id or URL, expanded; None for a built-in collection.

        Raises:
            ConfigError: the source names an environment variable that is not set, or is empty.
        """
        return _place(self.source, "collection.source")

    @property
    def reading(self) -> CollectionSettings:
        """The settings that decide which rows are taken in, the others at their defaults.

        What is done about duplicates and leaks must not make a collection be read again.
        """
        # Built anew, so that a kind of settings that knows more gives its reading part alone.
        kept = {name: getattr(self, name) for name in CollectionSettings.model_fields}
        return CollectionSettings(**kept | {"duplicates": DuplicateSettings(), "leaks": LeakSettings()})

    @property
    def folder(self) -> Path | None:
        """``place`` as a local path, which no URL is.

        Raises:
            ConfigError: the source names an environment variable that is not set, or is empty.
        """
        return None if self.place is None else Path(self.place)


class TextSettings(Settings):
    """Unlabelled text to adapt on: a file, a folder of text, a collection's corpus, or ``pycode``."""

    source: str = "pycode"
    name: str | None = None
    # Empty documents are left out, however many: a folder of text has them, and nothing is learnt from one.
    ingest: IngestSettings = IngestSettings(
        rules={"passage_text": RulePolicy(action="quarantine", stop_above=None)}, stop_above=None
    )
    duplicates: DuplicateSettings = DuplicateSettings()  # documents that say the same
    pycode: PycodeSettings = PycodeSettings()
    held_out: PositiveInt = 512  # passages, about; kept from training, and judged before and after it

    @property
    def path(self) -> Path | None:
        """The file or folder, or None for the built-in text.

        Raises:
            ConfigError: the source names an environment variable that is not set, or is empty.
        """
        place = _place(self.source, "text.source")
        return None if place is None else Path(place)


def _place(source: str, where: str) -> str | None:
    if source == "pycode":
        return None
    expanded = os.path.expandvars(source).strip()
    if "$" in expanded or not expanded:
        raise ConfigError(
            f"{where}: {source!r} names an environment variable that is not set; "
            "export it, or write the folder into the YAML"
        )
    return expanded if "://" in expanded else str(Path(expanded).expanduser())


class FromScratchSettings(Settings):
    """A small decoder with random weights and a tokenizer trained on the corpus: no download."""

    architecture: str = "llama"  # any model type that transformers can build from a config
    vocabulary_size: PositiveInt = 12_000
    hidden_size: PositiveInt = 128
    intermediate_size: PositiveInt = 256
    layers: PositiveInt = 2
    heads: PositiveInt = 4
    key_value_heads: PositiveInt | None = None  # shared by heads / key_value_heads heads each; None: heads
    max_positions: PositiveInt = 512
    tie_embeddings: bool = True
    split_identifiers: bool = True  # at `_` and camelCase, before byte-pair encoding
    lowercase: bool = True
    keep_punctuation: bool = True  # without it, twice the words of code fit into the same length


class TemplateSettings(Settings):
    """A prompt template of the user's own: the text is put between prefix and one of two suffixes."""

    name: str = "custom"
    version: PositiveInt = 1
    prefix: str = ""
    ebae_suffix: str = ""
    ebar_suffix: str = ""
    slots: PositiveInt = 1  # slot tokens per prompt
    slot_kind: Literal["added", "eos"] = "added"  # tokens of their own, or the end-of-sequence token
    slot_name: str = "<s{}>"  # of an added slot; {} is its number

    @model_validator(mode="after")
    def _slots_fit(self) -> Self:
        if self.slot_kind == "eos" and self.slots != 1:
            raise ValueError(
                f"slot_kind eos has one slot, the end-of-sequence token; got slots: {self.slots}"
            )
        if self.slot_name.count("{}") != 1 or not self.slot_name.replace("{}", "").strip():
            raise ValueError(
                f"slot_name: expected one {{}} for the number, e.g. <s{{}}>; got {self.slot_name!r}"
            )
        return self


class ModelSettings(Settings):
    """The decoder to start from, and how text is laid out for it."""

    base: str | None = None  # a Hugging Face folder or id, a bundle of ours, or models:/NAME@ALIAS
    revision: str | None = None
    trust_remote_code: bool = False
    from_scratch: FromScratchSettings | None = None
    template: str | TemplateSettings = "llama2vec"
    query_length: PositiveInt = 64  # tokens of text, prompt and slots not counted
    passage_length: PositiveInt = 160
    attention: Literal["sdpa", "eager", "flex_attention"] = "sdpa"
    dtype: Literal["float32", "bfloat16"] = "float32"
    slot_initialisation: Literal["mean", "random"] = "mean"

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.base is None) == (self.from_scratch is None):
            raise ValueError("give exactly one of base (a folder or id) and from_scratch")
        return self


class Bm25Settings(Settings):
    """The lexical baseline; the defaults are the fair ones (stemmed, identifiers split)."""

    k1: NonNegativeFloat = 1.5
    b: float = Field(0.75, ge=0.0, le=1.0)
    method: Literal["lucene", "robertson", "atire"] = "lucene"  # variant of term and document frequency
    stem: bool = True
    split_identifiers: bool = False
    stop_words: bool = True


class EvaluateSettings(Settings):
    """What is judged, and how deep."""

    split: str = "test"
    train_split: str = "train"  # for the leak-free subsets
    depth: PositiveInt = Field(100, ge=100)  # recall@100 and MAP@100 need it; 1000 for BEIR's metrics at 1000
    vectors: Literal["float32", "float16"] = "float32"  # how passages' vectors are kept; float16 halves them
    without_adaptation: bool = True  # the arm that shows what adaptation is worth
    leak_free_subsets: bool = True
    bm25: Bm25Settings = Bm25Settings()


class RegistrySettings(Settings):
    """Where the finished model goes."""

    model_name: str = "llara-retriever"


class TrainingSettings(Settings):
    """Everything one run of the training pipeline is told; ``parameters:`` of the YAML."""

    seed: NonNegativeInt = 0
    collection: CollectionSettings = CollectionSettings()
    model: ModelSettings = ModelSettings(from_scratch=FromScratchSettings())
    adapt: AdaptSettings = AdaptSettings()
    mine: MineSettings = MineSettings()
    finetune: FinetuneSettings = FinetuneSettings()
    launch: LaunchSettings = LaunchSettings()  # of both stages
    evaluate: EvaluateSettings = EvaluateSettings()
    registry: RegistrySettings = RegistrySettings()
    promote: PromoteSettings = PromoteSettings()


class AdaptationSettings(Settings):
    """Everything one run of the adaptation pipeline is told; ``parameters:`` of the YAML."""

    seed: NonNegativeInt = 0
    text: TextSettings = TextSettings()
    model: ModelSettings = ModelSettings(from_scratch=FromScratchSettings())
    adapt: AdaptSettings = AdaptSettings()
    launch: LaunchSettings = LaunchSettings()
    registry: RegistrySettings = RegistrySettings(model_name="llara-adapted")
