"""The report's words: the verdict at its head, and numbers as a reader expects them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from llara_core.evaluation.report_charts import metric_name, subset_name, system_name

MAIN_METRIC = "ndcg_at_10"
BASELINE = "bm25"
ABLATION = "finetuned_without_adaptation"
HERO = "finetuned"
SIGNIFICANT = 0.05  # above it a difference is told as within chance
SECONDS_PER_MINUTE = 60
NO_BREAK = "\N{NO-BREAK SPACE}"
MISSING = "\N{EN DASH}"

SYSTEM_NOTES = {
    "bm25": "lexical search, no training",
    "base": "the decoder before any training",
    "adapted": "after EBAE and EBAR, no labels seen",
    "finetuned": "adapted, then contrastive fine-tuning",
    "finetuned_without_adaptation": "the same fine-tuning, straight from base",
}

# In prose the reader is told a thing, not a key.
TITLES = {
    "base": "the untrained base",
    "adapted": "the adapted retriever",
    "finetuned": "the fine\N{NON-BREAKING HYPHEN}tuned retriever",
    "finetuned_without_adaptation": "the unadapted retriever",
}


def hero(record: Mapping[str, Any]) -> str:
    """The system that the report is about: ``finetuned``, or else the best one that is not BM25."""
    scores = record["subsets"][0]["systems"]
    if HERO in scores:
        return HERO
    trained: list[str] = [name for name in scores if name != BASELINE] or list(scores)
    return max(trained, key=lambda name: scores[name][MAIN_METRIC]["mean"])


def references(record: Mapping[str, Any]) -> list[str]:
    """What the hero is compared with, where judged: BM25 and the arm without adaptation."""
    scores = record["subsets"][0]["systems"]
    return [name for name in (BASELINE, ABLATION) if name in scores and name != hero(record)]


def headline(record: Mapping[str, Any]) -> dict[str, Any]:
    """Title, verdict and figures for the head of the page.

    Returns:
        ``title`` (one line), ``tone`` (``good``, ``even`` or ``bad``: against BM25), ``sentences``
        (the verdict, then one per leak-free subset), and ``tiles`` (label, value, note, tone).
    """
    name, whole = hero(record), record["subsets"][0]
    collection = record["collection"]
    score = whole["systems"][name][MAIN_METRIC]
    versus = score.get("versus_bm25") if name != BASELINE else None
    tone = _tone(versus)
    told = TITLES.get(name, system_name(name))
    label = sentence(told)[:-1]
    title = {
        "good": f"{label} beats BM25 on {collection['name']}",
        "even": f"{label} and BM25 are level on {collection['name']}",
        "bad": f"BM25 beats {told} on {collection['name']}",
        "": f"{label} on {collection['name']}",
    }[tone]
    lead = (
        f"{label} reaches {metric_name(MAIN_METRIC)} {number(score['mean'])} on the "
        f"{integer(whole['queries'])} {collection['split']} queries"
    )
    sentences = [f"{lead}{_against(score, versus, 'BM25')}.{_adaptation(score)}"]
    for subset in narrower(record)[1:]:
        cell = subset["systems"].get(name, {}).get(MAIN_METRIC)
        if cell:
            sentences.append(
                f"{subset_name(subset['name'])} ({integer(subset['queries'])} queries): "
                f"{number(cell['mean'])}{_against(cell, cell.get('versus_bm25'), 'BM25')}."
            )
    return {"title": title, "tone": tone, "sentences": sentences, "tiles": _tiles(record, score, versus)}


def narrower(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The whole split, then the judged subsets that leave out some of its queries."""
    whole, *others = record["subsets"]
    return [whole, *(one for one in others if one["systems"] and one["queries"] < whole["queries"])]


def sentence(words: str) -> str:
    """With a capital at the start and a full stop at the end."""
    return words[:1].upper() + words[1:].rstrip(".") + "." if words else ""


def _tone(versus: Mapping[str, float] | None) -> str:
    if not versus:
        return ""
    if versus["p_value"] >= SIGNIFICANT:
        return "even"
    return "good" if versus["difference"] > 0 else "bad"


def _against(score: Mapping[str, Any], versus: Mapping[str, float] | None, other: str) -> str:
    """``, 0.028 (4.7%) above BM25 (p = 0.003)``; empty without a comparison."""
    if not versus:
        return ""
    gap, reference = versus["difference"], score["mean"] - versus["difference"]
    if gap == 0:
        return f", the same as {other}"
    share = f" ({abs(gap) / reference:.1%})" if reference > 0 else ""
    doubt = ", within chance" if versus["p_value"] >= SIGNIFICANT else ""
    side = "above" if gap > 0 else "below"
    return f", {number(abs(gap))}{share} {side} {other}{doubt} ({p_value(versus['p_value'])})"


def _adaptation(score: Mapping[str, Any]) -> str:
    versus = score.get("versus_without_adaptation")
    if not versus:
        return ""
    gap, chance = signed(versus["difference"]), p_value(versus["p_value"])
    if versus["p_value"] >= SIGNIFICANT:
        return f" Against the same fine-tuning without adaptation, {gap} is within chance ({chance})."
    if versus["difference"] < 0:
        return f" Adaptation cost {gap} against the same fine-tuning without it ({chance})."
    return f" Adaptation is worth {gap} over the same fine-tuning without it ({chance})."


def _tiles(
    record: Mapping[str, Any], score: Mapping[str, Any], versus: Mapping[str, float] | None
) -> list[dict[str, str]]:
    collection = record["collection"]
    tiles = [
        {
            "label": f"{metric_name(MAIN_METRIC)}, {system_name(hero(record))}",
            "value": number(score["mean"]),
            "note": f"95% interval {interval(score['interval'])}",
            "tone": "",
        }
    ]
    pairs = (("against BM25", versus), ("adaptation is worth", score.get("versus_without_adaptation")))
    for label, pair in pairs:
        if pair:
            tone = _tone(pair)
            note = p_value(pair["p_value"]) + (", within chance" if tone == "even" else "")
            tiles.append({"label": label, "value": signed(pair["difference"]), "note": note, "tone": tone})
    tiles.append(
        {
            "label": f"{collection['split']} queries",
            "value": integer(record["subsets"][0]["queries"]),
            "note": f"against {integer(collection['documents'])} passages",
            "tone": "",
        }
    )
    return tiles


def number(value: float | None) -> str:
    """Three decimals, as retrieval tables print them; a dash for what is absent or not a number."""
    return MISSING if value is None or not math.isfinite(value) else f"{value:.3f}"


def signed(value: float | None) -> str:
    """Three decimals with a true minus sign, so that columns line up."""
    if value is None or not math.isfinite(value):
        return MISSING
    rounded = f"{value:+.3f}".replace("-0.000", "+0.000")  # a loss that rounds to nothing is none
    return rounded.replace("-", "\N{MINUS SIGN}")


def integer(value: float) -> str:
    """Thousands set apart by commas."""
    return f"{int(value):,}"


def interval(bounds: tuple[float, float]) -> str:
    """``0.607 to 0.651``."""
    return f"{number(bounds[0])} to {number(bounds[1])}"


def p_value(value: float) -> str:
    """``p = 0.012``, or ``p < 0.001``: a permutation test cannot tell smaller ones apart."""
    words = "p < 0.001" if value < 0.001 else f"p = {value:.3f}"
    return words.replace(" ", NO_BREAK)


def duration(seconds: Any) -> str:
    """Seconds as ``45 s`` or ``3 min 05 s``; anything that is no number as it is."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not math.isfinite(seconds):
        return str(seconds)
    if seconds < SECONDS_PER_MINUTE:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), SECONDS_PER_MINUTE)
    return f"{minutes} min {rest:02d} s"


def difference_tone(versus: Mapping[str, float] | None) -> str:
    """``good``, ``bad`` or ``even``: how a change is coloured."""
    return _tone(versus)


def system_note(system: str) -> str:
    """What the system is, in a few words; empty for one we do not know."""
    return SYSTEM_NOTES.get(system, "")


FILTERS: dict[str, Callable[..., str]] = {
    "number": number,
    "signed": signed,
    "integer": integer,
    "interval": interval,
    "p_value": p_value,
    "tone": difference_tone,
    "system_name": system_name,
    "system_note": system_note,
    "metric_name": metric_name,
    "subset_name": subset_name,
    "sentence": sentence,
}
