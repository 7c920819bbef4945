"""The page of `adaptation_gain.py`: its statistics as Markdown, and all of them as JSON beside it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gain_cells import ARMS, NONE, Study
from gain_statistics import CONTRASTS, STAGES, summarise

from llara_core.evaluation.report_charts import subset_name
from llara_core.evaluation.report_text import MISSING, integer, number, p_value, signed
from llara_core.files import new_file, write_json

TEXTS = {None: MISSING, "own": "own corpus", "wikipedia": "Wikipedia", "mixed": "half own, half Wikipedia"}
NOTES = re.compile(r"<!-- notes -->\n.*?<!-- /notes -->", re.DOTALL)
LARGE_PAGE = "adaptation_gain_50m.md"
ABOUT = (
    "Every arm of a seed starts from the same weights and gets the same fine-tuning: same steps, same pairs "
    "in the same order, in-batch negatives only (mined ones would depend on the arm). The weights of EBAE "
    "and EBAR sum to 1 in every arm. p-values: paired randomisation over queries, on scores averaged over "
    "seeds."
)


def write_results(studies: Sequence[Study], arms: Sequence[str], seeds: Sequence[int], output: Path) -> None:
    """Write the Markdown page and, beside it, the JSON record of everything in it.

    What stands between ``<!-- notes -->`` and ``<!-- /notes -->`` of an older page is kept.

    Raises:
        DataError: a cell is missing, or was made from other text than the rest.
    """
    records = [summarise(study, arms, seeds) for study in studies]
    lines = _page(records)
    if not any(record["pretraining"] for record in records):
        lines += ["", "## A larger model", "", _large(output.with_name(LARGE_PAGE))]
    page = "\n".join(lines) + "\n"
    old = output.read_text(encoding="utf-8") if output.is_file() else ""
    if kept := NOTES.search(old):
        page = NOTES.sub(lambda _: kept.group(), page)
    with new_file(output) as partial:
        partial.write_text(page, encoding="utf-8")
    write_json(output.with_suffix(".json"), {"studies": records})


def _page(records: Sequence[Mapping[str, Any]]) -> list[str]:
    seeds = ", ".join(str(seed) for seed in records[0]["seeds"])
    lines = [
        "# Does adaptation pay?",
        "",
        f"Written by `make bench-gain`. nDCG@10; mean ± standard deviation over the seeds {seeds}. {ABOUT}",
        "",
        "## What may be claimed",
        "",
        "A gain (or loss) is claimed only where it is significant on leak-free queries: on every leak-free "
        "subset of the collection, p < 0.05 after Holm's correction for the number of arms.",
        "",
        *_claim_table(records),
        "",
        "<!-- notes -->",
        "<!-- /notes -->",
    ]
    for record in records:
        lines += ["", *_section(record)]
    return lines


def _large(page: Path) -> str:
    command = (
        "`make bench-gain ARGS='--size 50m'` runs the same on a GPU with a decoder of 57 million parameters"
    )
    known = f"[its page]({page.name})" if page.is_file() else "not measured"
    return f"{command}, pretrained as a language model on the Wikipedia articles: {known}."


def _claim_table(records: Sequence[Mapping[str, Any]]) -> list[str]:
    heads = [f"{record['collection']}, {STAGES[stage]}" for record in records for stage in STAGES]
    rows = []
    for arm in records[0]["claims"]["finetuned"]:
        cells = [record["claims"][stage][arm] for record in records for stage in STAGES]
        rows.append(
            [ARMS[arm].label, TEXTS[ARMS[arm].text], *(f"**{c}**" if c == "gain" else c for c in cells)]
        )
    return _table(["adaptation", "text", *heads], rows, words=2)


def _section(record: Mapping[str, Any]) -> list[str]:
    adapt, tune = record["settings"]["adapt"], record["settings"]["finetune"]
    size = record["settings"]["model"]["from_scratch"]
    lines = [
        f"## {record['collection']}",
        "",
        f"{integer(record['documents'])} passages (content hash `{record['content_hash'][:12]}`), "
        f"{integer(record['training_pairs'])} training pairs. Decoder from scratch: {size['layers']} "
        f"layer(s), hidden size {size['hidden_size']}. Adaptation: {adapt['steps']} steps of "
        f"{adapt['batch_size']} spans; fine-tuning: {tune['steps']} steps of {tune['batch_size']} pairs"
        + (f" and {tune['span_pairs']} span pairs" if tune["span_pairs"] else "")
        + f". {record['minutes']:.0f} minutes for all cells. {'; '.join(record['environments'])}.",
    ]
    if record["pretraining"]:
        lines[-1] += f" Before: {record['pretraining']['steps']} steps of language modelling on Wikipedia."
    for name, subset in record["subsets"].items():
        lines += ["", f"### {record['collection']}: {subset_name(name)} ({integer(subset['queries'])})", ""]
        lines += _arm_table(subset)
    lines += ["", f"### {record['collection']}: why", "", *_contrast_table(record)]
    cosines = [
        [ARMS[arm].label, TEXTS[ARMS[arm].text], *(number(one[stage]) for stage in STAGES)]
        for arm, one in record["cosine"].items()
    ]
    lines += ["", "Mean cosine between random passages (near 1: the embedding has collapsed):", ""]
    return lines + _table(["adaptation", "text", *STAGES.values()], cosines, words=2)


def _arm_table(subset: Mapping[str, Any]) -> list[str]:
    heads = ["adaptation", "text"]
    for stage in STAGES.values():
        heads += [stage, "against no adaptation", "better seeds"]
    rows = []
    for arm in subset["stages"]["finetuned"]["arms"]:
        row = [ARMS[arm].label, TEXTS[ARMS[arm].text]]
        for stage in STAGES:
            one = subset["stages"][stage]["arms"][arm]
            versus = one["versus_none"]
            row.append(f"{number(one['mean'])} ± {number(one['spread'])}")
            row += (
                [MISSING, MISSING]
                if arm == NONE
                else [_change(versus), f"{versus['better_seeds']} of {len(one['by_seed'])}"]
            )
        rows.append(row)
    rows.append(
        ["BM25", MISSING, number(subset["bm25"]), MISSING, MISSING, number(subset["bm25"]), MISSING, MISSING]
    )
    return _table(heads, rows, words=2)


def _contrast_table(record: Mapping[str, Any]) -> list[str]:
    names = list(record["subsets"])
    heads = ["difference"]
    for name in names:
        heads += [f"{subset_name(name)}, {stage}" for stage in STAGES.values()]
    rows = []
    for first, second, label in CONTRASTS:
        key = f"{first} - {second}"
        if key in record["subsets"]["all"]["stages"]["finetuned"]["contrasts"]:
            cells = [
                record["subsets"][name]["stages"][stage]["contrasts"][key]
                for name in names
                for stage in STAGES
            ]
            rows.append([label, *map(_change, cells)])
    return _table(heads, rows, words=1)


def _change(versus: Mapping[str, Any]) -> str:
    return f"{signed(versus['difference'])} ({p_value(versus['p_value'])})"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], words: int) -> list[str]:
    """Markdown lines; the first ``words`` columns are left-aligned."""
    rule = ["---" if place < words else "---:" for place in range(len(head))]
    return [f"| {' | '.join(row)} |" for row in (head, rule, *rows)]
