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
    PositiveFloat,
    PositiveInt,
    model_validator,
)
from typing_extensions import Self

from llara_core.errors import ConfigError
from llara_core.settings import Settings

DEFAULT_PACKAGES = (
    "SQLAlchemy", "datasets", "fonttools", "great_expectations", "huggingface_hub", "matplotlib", "mlflow",
    "networkx", "numpy", "pandas", "peft", "scikit-learn", "scipy", "sympy", "torch", "zenml",
)  # fmt: skip


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
    """Where the text comes from: ``pycode``, or a BEIR folder (``~`` and variables are expanded)."""

    source: str = "pycode"
    name: str | None = None
    # Share of judgements that may name unknown queries or documents: ArguAna's official qrels have 0.4%.
    unresolved_share: float = Field(0.0, ge=0.0, le=1.0)
    pycode: PycodeSettings = PycodeSettings()

    @property
    def folder(self) -> Path | None:
        """The BEIR folder, or None for a built-in collection.

        Raises:
            ConfigError: the source names an environment variable that is not set, or is empty.
        """
        if self.source == "pycode":
            return None
        expanded = os.path.expandvars(self.source).strip()
        if "$" in expanded or not expanded:
            raise ConfigError(
                f"collection.source: {self.source!r} names an environment variable that is not set; "
                "export it, or write the folder into the YAML"
            )
        return Path(expanded).expanduser()


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
    prefix: str = ""
    ebae_suffix: str = ""
    ebar_suffix: str = ""
    slots: PositiveInt = 1  # slot tokens per prompt


class ModelSettings(Settings):
    """The decoder to start from, and how text is laid out for it."""

    base: str | None = None  # a Hugging Face folder or id
    revision: str | None = None
    trust_remote_code: bool = False
    from_scratch: FromScratchSettings | None = None
    template: str | TemplateSettings = "llama2vec"
    query_length: PositiveInt = 64  # tokens of text, prompt and slots not counted
    passage_length: PositiveInt = 160
    attention: Literal["sdpa", "eager"] = "sdpa"
    dtype: Literal["float32", "bfloat16"] = "float32"
    slot_initialisation: Literal["mean", "random"] = "mean"

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.base is None) == (self.from_scratch is None):
            raise ValueError("give exactly one of base (a folder or id) and from_scratch")
        return self


class LoraSettings(Settings):
    """Low-rank adapters; the defaults are the published ones (LLaRA, section 4.1 and its code)."""

    rank: PositiveInt = 64
    alpha: PositiveFloat = 16.0
    dropout: float = Field(0.1, ge=0.0, lt=1.0)
    target_modules: tuple[str, ...] = (
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
    )  # fmt: skip


class OptimizerSettings(Settings):
    """What both training stages share."""

    steps: PositiveInt = 100
    batch_size: PositiveInt = 64
    learning_rate: PositiveFloat = 1e-3
    embedding_learning_rate: PositiveFloat | None = None  # of the token embeddings; None: the same
    warmup_fraction: float = Field(0.1, ge=0.0, le=1.0)
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    weight_decay: NonNegativeFloat = 0.01
    adam_beta2: float = Field(0.999, gt=0.0, lt=1.0)  # lower for runs of few steps
    gradient_clip: PositiveFloat = 1.0
    lora: LoraSettings | None = None  # None: all parameters are trained
    log_every: PositiveInt = 10


class AdaptSettings(OptimizerSettings):
    """EBAE and EBAR in one pass (paper, section 3)."""

    text_length: PositiveInt = 128  # tokens of text per row
    minimum_span: PositiveInt | None = None  # random spans of this to text_length tokens; None: the start
    # What EBAR foretells: the text after the span (the paper), or the text on both sides of a random span.
    ebar_target: Literal["next", "around"] = "next"
    ebae_weight: NonNegativeFloat = 0.5
    ebar_weight: NonNegativeFloat = 0.5
    language_model_weight: NonNegativeFloat = 0.0
    slot_reduction: Literal["max", "mean"] = "max"
    targets: Literal["unique", "all"] = "unique"
    frequency_prior: bool = False
    idf_weights: bool = False

    @model_validator(mode="after")
    def _around_needs_spans(self) -> Self:
        if self.ebar_target == "around" and self.minimum_span is None:
            raise ValueError("ebar_target 'around' needs random spans: set minimum_span")
        return self


class MineSettings(Settings):
    """Hard negatives from BM25 and from the adapted model's own search."""

    split: str = "train"
    queries: PositiveInt | None = None  # mined for this many, drawn by the seed; None: for all
    negatives: PositiveInt = 8  # kept per query
    bm25_depth: NonNegativeInt = 50
    dense_depth: NonNegativeInt = 50
    skip_top: NonNegativeInt = 0  # ranks left out at the top of each list
    positive_margin: float = Field(0.95, gt=0.0, le=1.0)  # dense score at most this share of the positive's
    near_duplicate: float = Field(0.8, gt=0.0, le=1.0)  # word-set Jaccard with a positive


class FinetuneSettings(OptimizerSettings):
    """Contrastive fine-tuning with in-batch and hard negatives (paper, section 3.4)."""

    split: str = "train"
    temperature: PositiveFloat = 0.01
    hard_negatives: NonNegativeInt = 1  # per query and step
    span_pairs: NonNegativeInt = 0  # extra (span of a document, document) pairs per step, no labels needed
    symmetric: bool = False  # also passage → query


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
    depth: PositiveInt = Field(100, ge=100)  # recall@100 and MAP@100 need it
    without_adaptation: bool = True  # the arm that shows what adaptation is worth
    leak_free_subsets: bool = True
    bm25: Bm25Settings = Bm25Settings()


class RegistrySettings(Settings):
    """Where the finished model goes."""

    model_name: str = "llara-retriever"


class PromoteSettings(Settings):
    """When the alias ``champion`` moves."""

    metric: Literal["ndcg_at_10", "mrr_at_10", "recall_at_100", "map_at_100"] = "ndcg_at_10"
    minimum_gain: NonNegativeFloat = 0.0


class TrainingSettings(Settings):
    """Everything one run of the training pipeline is told; ``parameters:`` of the YAML."""

    seed: NonNegativeInt = 0
    collection: CollectionSettings = CollectionSettings()
    model: ModelSettings = ModelSettings(from_scratch=FromScratchSettings())
    adapt: AdaptSettings = AdaptSettings()
    mine: MineSettings = MineSettings()
    finetune: FinetuneSettings = FinetuneSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    registry: RegistrySettings = RegistrySettings()
    promote: PromoteSettings = PromoteSettings()
