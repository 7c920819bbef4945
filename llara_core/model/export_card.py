"""The model card of an export: README.md with a head that model hubs read, filled from the bundle.

Names come from whoever made the data, so the head is written by a YAML writer, and the text escapes them.
Nothing is made up: a licence that nobody wrote down is "unknown". Source: issue 7, point 5.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from llara_core import __version__
from llara_core.data.visible import visible
from llara_core.model.bundle import Bundle
from llara_core.model.export_usage import LIBRARIES, usage
from llara_core.model.model_card import CARD_PAGE, data_section, plain, stages_section

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_LICENCE_KEYS = ("license", "license_name", "license_link")
FROM_SCRATCH = "from scratch"  # what ``prepare`` calls the base of a model without one
_PAPER = "2312.15503"
_CITATION = """```bibtex
@article{li2023llara,
  title   = {Making Large Language Models A Better Foundation For Dense Retrieval},
  author  = {Li, Chaofan and Liu, Zheng and Xiao, Shitao and Shao, Yingxia},
  journal = {arXiv preprint arXiv:2312.15503},
  year    = {2023}
}
```
"""


@dataclass(frozen=True)
class Score:
    """One metric of one system on one split, with the interval of its mean.

    Args:
        collection: its name.
        split: that was judged.
        metric: e.g. ``ndcg_at_10``.
        value: mean over queries, in [0, 1].
        low: lower end of the 95% bootstrap interval.
        high: upper end.
        queries: how many were judged.
        documents: size of the corpus.
        system: what was judged, e.g. ``float32`` or ``int8``.
    """

    collection: str
    split: str
    metric: str
    value: float
    low: float
    high: float
    queries: int
    documents: int
    system: str = "bundle"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for ``export.json``."""
        return asdict(self)


def export_card(
    bundle: Bundle, target: str, facts: Mapping[str, Any], scores: Sequence[Score], base: str | None = None
) -> str:
    """The card in Markdown with a YAML head; it holds no date and no path.

    Args:
        bundle: what was exported.
        target: for which library.
        facts: what the export found out.
        scores: with intervals.
        base: folder or id of the base model; None: what the bundle says.
    """
    base = base or bundle.base_model
    licence = base_licence(base)
    lines = [
        f"---\n{_head(bundle, target, scores, base, licence)}---\n",
        "# Dense retriever made by llara\n",
        _what(bundle, base),
        "## Use\n",
        usage(bundle, target, facts),
        *_prompts(bundle),
        *_facts(facts),
        *data_section(bundle),
        *stages_section(bundle),
        *_recipe(bundle),
        *_scores(bundle, scores),
        *_limits(bundle),
        *_licence(bundle, base, licence),
        "## Citation\n\nThe method:\n",
        _CITATION,
    ]
    return "\n".join(lines)


def base_licence(base: str) -> dict[str, str]:
    """What the base model's own card says about its licence; empty where there is no card or no licence.

    Args:
        base: folder of the base model; of what is no folder here nothing is known.
    """
    page = Path(base).expanduser() / CARD_PAGE
    if not page.is_file():
        return {}
    head = re.match(r"\s*---\r?\n(.*?)\r?\n---\s", page.read_text(encoding="utf-8", errors="replace"), re.S)
    try:
        values = yaml.safe_load(head[1]) if head else None
    except yaml.YAMLError:
        return {}
    if not isinstance(values, dict):
        return {}
    return {key: visible(values[key]) for key in _LICENCE_KEYS if isinstance(values.get(key), str)}


def _head(bundle: Bundle, target: str, scores: Sequence[Score], base: str, licence: Mapping[str, str]) -> str:
    values: dict[str, Any] = {
        **({"license": "unknown"} | dict(licence)),
        "library_name": LIBRARIES[target],
        "pipeline_tag": "feature-extraction",
        "tags": ["llara", "dense-retrieval", "feature-extraction", f"arxiv:{_PAPER}"]
        + ([LIBRARIES[target]] if LIBRARIES[target] != "llara" else []),
    }
    if _HUB_ID.fullmatch(base) and not Path(base).expanduser().exists():
        values["base_model"] = base
        values["base_model_relation"] = {"adapter": "adapter", "onnx": "quantized"}.get(target, "finetune")
    results = _index(scores)
    if results:
        values["model-index"] = [{"name": f"llara-{bundle.fingerprint[:12]}", "results": results}]
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=math.inf)


def _index(scores: Sequence[Score]) -> list[dict[str, Any]]:
    """Scores as hubs show them: one entry a collection and split, its metrics below."""
    entries: dict[tuple[str, str], list[Score]] = {}
    for score in scores:
        entries.setdefault((visible(score.collection), visible(score.split)), []).append(score)
    return [
        {
            "task": {"type": "text-retrieval", "name": "Retrieval"},
            "dataset": {"name": name, "type": name, "split": split},
            "metrics": [
                {
                    "type": one.metric,
                    "value": round(one.value, 4),
                    "name": f"{one.metric} ({one.system}, 95% interval {one.low:.4f} to {one.high:.4f})",
                }
                for one in some
            ],
        }
        for (name, split), some in entries.items()
    ]


def _what(bundle: Bundle, base: str) -> str:
    return (
        f"A decoder-only language model that turns queries and passages into vectors, made "
        f"{_origin(base)} with llara {__version__}. Vectors are compared by their dot product, which is "
        f"their cosine. Fingerprint of weights, tokenizer and template: `{bundle.fingerprint}`; vectors of "
        "other fingerprints do not mix with its own.\n"
    )


def _origin(base: str) -> str:
    return plain(base) if base.startswith(FROM_SCRATCH) else f"from {plain(_name(base))}"


def _name(base: str) -> str:
    """A base as a card may show it: of a folder, here or elsewhere, its last name alone."""
    if base.startswith((".", "/", "~")) or "\\" in base or Path(base).expanduser().exists():
        return base.replace("\\", "/").rstrip("/").rpartition("/")[2]
    return base


def _prompts(bundle: Bundle) -> Iterator[str]:
    template = bundle.template
    yield "## How a text is laid out\n"
    yield "| | query | passage |\n|---|---|---|"
    for what, query, passage in (
        ("before the text", template.prefix, template.prefix),
        ("most tokens of text", bundle.query_length, bundle.passage_length),
        ("after the text", template.ebar_suffix, template.ebae_suffix),
        ("slots", _slots(template.ebar_slots), _slots(template.ebae_slots)),
    ):
        yield f"| {what} | {_cell(query)} | {_cell(passage)} |"
    yield (
        f"\nThe vector is the mean of the final hidden states at the {template.slots_per_prompt} slot(s), "
        f"brought to length 1. Template {plain(template.name)}, version {template.version}. A title stands "
        "before its text, with one space between.\n"
    )


def _slots(names: Sequence[str]) -> str:
    return " ".join(names) or "the end-of-sequence token"


def _cell(value: Any) -> str:
    return plain(value) if str(value) else "nothing"


def _facts(facts: Mapping[str, Any]) -> Iterator[str]:
    told = [(key, value) for key, value in facts.items() if isinstance(value, str | int | float)]
    if told:
        yield "## This export\n"
        for key, value in told:
            shown = f"{value:.6g}" if isinstance(value, float) else value
            yield f"- {plain(key.replace('_', ' '))}: {plain(shown)}"
        yield ""


def _recipe(bundle: Bundle) -> Iterator[str]:
    """Settings of every stage. As JSON no line of them can begin with backticks and end the block."""
    for stage in bundle.history:
        if stage.settings:
            shown = dict(stage.settings)
            if isinstance(shown.get("base"), str):
                shown["base"] = _name(shown["base"])
            text = json.dumps(shown, indent=1, ensure_ascii=True, sort_keys=True)
            yield f"<details><summary>Settings of {plain(stage.name)}</summary>\n\n```json\n{text}\n```\n"
            yield "</details>\n"


def _scores(bundle: Bundle, scores: Sequence[Score]) -> Iterator[str]:
    if not scores and not bundle.scores:
        yield "## Scores\n\nNone were handed over with this export.\n"
        return
    yield "## Scores\n"
    yield "| collection | split | system | metric | value | 95% interval | queries | documents |"
    yield "|---|---|---|---|---:|---|---:|---:|"
    for one in scores:
        yield (
            f"| {plain(one.collection)} | {plain(one.split)} | {plain(one.system)} | {plain(one.metric)} "
            f"| {one.value:.4f} | {one.low:.4f} to {one.high:.4f} | {one.queries:,} | {one.documents:,} |"
        )
    for name, value in sorted(bundle.scores.items()):
        collection, _, rest = name.partition("/")
        system, _, metric = rest.partition("/")
        yield (
            f"| {plain(collection)} | | {plain(system)} | {plain(metric)} | {value:.4f} | not recorded | | |"
        )
    yield ""


def _limits(bundle: Bundle) -> Iterator[str]:
    yield "## Limits\n"
    yield f"- Of a query the first {bundle.query_length} tokens count, of a passage {bundle.passage_length}."
    yield "- It knows the languages and subjects of its base model and of the data; others are untested."
    leaking = [one["name"] for one in bundle.data if one.get("leaks", {}).get("leaking_queries")]
    if leaking:
        yield (
            f"- Training shows part of the evaluation on {plain(', '.join(leaking))} (see Data): a score "
            "there flatters."
        )
    elif not any("leaks" in one for one in bundle.data):
        yield "- Whether training shows anything of an evaluation was not recorded with this model."
    yield "- It was judged by relevance alone, not by what it finds for whom: its data's biases are in it.\n"


def _licence(bundle: Bundle, base: str, licence: Mapping[str, str]) -> Iterator[str]:
    yield "## Licence\n"
    if bundle.base_model.startswith(FROM_SCRATCH):
        yield "There is no base model, and whoever trained this one has not said. Unknown: check.\n"
    elif licence:
        told = ", ".join(plain(value) for value in licence.values())
        yield f"The base model's own card says: {told}. The licences of the data add to it.\n"
    else:
        yield f"Unknown: check that of {plain(_name(base))}, and those of the data.\n"
