"""Settings of the two training stages: what they share, adaptation and contrastive fine-tuning."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)
from typing_extensions import Self

from llara_core.settings import Settings

# What a preset of the adaptation objective stands for; a key that is given beside it wins.
PRESETS: dict[str, dict[str, Any]] = {
    # The released code (FlagEmbedding, research/LLARA/pretrain): (EBAE + EBAR) / 2, each divided by 10, plus
    # the language-model term; the best of eight slots; distinct tokens. Its published command also removes
    # stop words (stop_words: english). docs/guides/objectives.md lists where it departs from the paper.
    "released": {
        "ebae_weight": 0.05,
        "ebar_weight": 0.05,
        "language_model_weight": 1.0,
        "slot_reduction": "max",
        "targets": "unique",
    },
    # The paper's equations (arXiv 2312.15503): both terms in full, every occurrence of a token (averaged, not
    # summed: a text's length is no weight), one slot, no language-model term. Reported to collapse some
    # models (FlagEmbedding #538): watch mean_cosine.
    "paper": {
        "ebae_weight": 1.0,
        "ebar_weight": 1.0,
        "language_model_weight": 0.0,
        "slot_reduction": "mean",
        "targets": "all",
    },
    # A model with random weights: without prior and IDF weights it only learns how frequent words are.
    "from_scratch": {
        "ebae_weight": 0.5,
        "ebar_weight": 0.5,
        "language_model_weight": 0.0,
        "slot_reduction": "max",
        "targets": "unique",
        "frequency_prior": True,
        "idf_weights": True,
    },
}


class LoraSettings(Settings):
    """Low-rank adapters; the defaults are the published ones (LLaRA, section 4.1 and its code)."""

    rank: PositiveInt = 64
    alpha: PositiveFloat = 16.0
    dropout: float = Field(0.1, ge=0.0, lt=1.0)
    # Last names of the layers; "all-linear": every linear layer but the output head.
    target_modules: Literal["all-linear"] | tuple[str, ...] = (
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
    )  # fmt: skip
    # QLoRA: the frozen weights in 4 bits (bitsandbytes; slow on a CPU); the adapters stay as they are.
    quantization: Literal["none", "nf4"] = "none"


class OptimizerSettings(Settings):
    """What both training stages share."""

    steps: PositiveInt = 100
    batch_size: PositiveInt = 64  # of one optimiser step, over all processes
    learning_rate: PositiveFloat = 1e-3
    embedding_learning_rate: PositiveFloat | None = None  # of the token embeddings; None: the same
    warmup_fraction: float = Field(0.1, ge=0.0, le=1.0)
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    weight_decay: NonNegativeFloat = 0.01
    adam_beta2: float = Field(0.999, gt=0.0, lt=1.0)  # lower for runs of few steps
    gradient_clip: PositiveFloat = 1.0
    lora: LoraSettings | None = None  # None: all parameters are trained
    # Most padded tokens of one forward pass on one device; None: what the stage finds fastest. It bounds
    # memory and changes no result: a step's gradient is that of its whole batch.
    micro_batch_tokens: PositiveInt | None = None
    gradient_checkpointing: bool = False  # recompute layers in the backward pass: less memory, more time
    mixed_precision: Literal["no", "bf16"] = "no"  # bf16: float32 weights, bfloat16 arithmetic
    checkpoint_every: PositiveInt | None = 100  # steps; None: an interrupted run starts over
    keep_checkpoints: PositiveInt = 2
    log_every: PositiveInt = 10


class AdaptSettings(OptimizerSettings):
    """EBAE and EBAR in one pass (paper, section 3)."""

    steps: NonNegativeInt = 100  # 0: the base is adapted already, and is passed on as it is
    preset: Literal["released", "paper", "from_scratch"] | None = None  # fills the objective's settings
    text_length: PositiveInt = 128  # tokens of text per row
    # Tokens at the start of a text whose words are targets; None: those that the model reads. The released
    # code reads what its cut-off leaves beside the prompts, and takes its targets from the whole cut-off.
    target_length: PositiveInt | None = None
    minimum_span: PositiveInt | None = None  # random spans of this to text_length tokens; None: the start
    # What EBAR foretells: the text after the span (the paper), or the text on both sides of a random span.
    ebar_target: Literal["next", "around"] = "next"
    ebae_weight: NonNegativeFloat = 0.5
    ebar_weight: NonNegativeFloat = 0.5
    language_model_weight: NonNegativeFloat = 0.0
    slot_reduction: Literal["max", "mean"] = "max"
    targets: Literal["unique", "all"] = "unique"
    stop_words: str | None = (
        None  # language whose stop words are no targets, e.g. english; None: none left out
    )
    frequency_prior: bool = False
    idf_weights: bool = False
    packing: bool = False  # rows share sequences (flex attention; on other kernels a dense mask)

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, values: Any) -> Any:
        chosen = values.get("preset") if isinstance(values, dict) else None
        return {**PRESETS[chosen], **values} if chosen in PRESETS else values

    @model_validator(mode="after")
    def _spans_and_targets_agree(self) -> Self:
        if self.ebar_target == "around" and self.minimum_span is None:
            raise ValueError("ebar_target 'around' needs random spans: set minimum_span")
        if self.target_length is not None and self.minimum_span is not None:
            raise ValueError("target_length counts from the start of a text: leave out minimum_span")
        return self


class FinetuneSettings(OptimizerSettings):
    """Contrastive fine-tuning with in-batch and hard negatives (paper, section 3.4).

    The defaults are those of the published command (FlagEmbedding, research/LLARA, finetune): LoRA, learning
    rate, warm-up, schedule, temperature, a group of 16 (a positive and ``hard_negatives``), negatives of all
    processes. Where we differ from its code: its 64 and 160 tokens count the prompt and the slots, ours
    (``model.query_length``, ``model.passage_length``) the text alone; it repeats a query's negatives to fill
    the group, masks no false negatives, and lets no gradient reach the other processes' passages; its example
    has 8 queries a step, fp16 and no weight decay.
    """

    learning_rate: PositiveFloat = 3e-4
    lora: LoraSettings | None = LoraSettings()
    split: str = "train"
    temperature: PositiveFloat = 0.01
    hard_negatives: NonNegativeInt = 15  # per query and step
    positives: PositiveInt = 1  # most positives per query and step
    mask_groups: bool = False  # documents of a positive's group (corpus column) are no negatives
    cross_device_negatives: bool = True  # passages of the other processes are negatives too
    gradient_cache: bool = False  # memory of one sub-batch however large the batch; the same gradients
    distillation_weight: NonNegativeFloat = 0.0  # of the KL to a teacher's scores of a query's candidates
    distillation_temperature: PositiveFloat = 1.0  # divides the teacher's scores
    span_pairs: NonNegativeInt = 0  # extra (span of a document, document) pairs per step, no labels needed
    symmetric: bool = False  # also passage → query
