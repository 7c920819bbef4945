"""One self-contained HTML page that shows what a run's systems are worth, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from llara_core.errors import DataError
from llara_core.evaluation import report_charts as charts
from llara_core.evaluation import report_text as text
from llara_core.evaluation.pages import render_page, save_page

if TYPE_CHECKING:
    from llara_core.evaluation.comparison import Comparison

# Stage of a history → the system that it made, for names and colours.
STAGE_SYSTEMS = {"adapt": "adapted", "finetune": "finetuned", "finetune_without_adaptation": text.ABLATION}

# What a comparison of a single model may lack; its section is then left out.
OPTIONAL: dict[str, Any] = {
    "histories": {},
    "length_histograms": [],
    "best_queries": [],
    "worst_queries": [],
    "examples_of": "",
    "notes": [],
}


def write_report(
    comparison: Comparison | Mapping[str, Any],
    path: Path,
    facts: Mapping[str, Any] | None = None,
    promotion: Mapping[str, Any] | None = None,
) -> Path:
    """Write the report of one run and return its path; an older report is replaced whole or not at all.

    Args:
        comparison: the comparison, or the dictionary that its ``to_dict`` gives (schema 1).
        path: the HTML file to write; missing parent folders are made.
        facts: how the run was made, shown at the foot of the page: scalars (``seed``, ``git_commit``),
            mappings (``durations`` in seconds by stage, ``versions``, ``data_hashes``) and ``settings``
            (nested, shown as YAML). None takes ``comparison["facts"]`` where there is one.
        promotion: ``promoted``, ``reason``, ``arm`` (a ``Check`` as a dictionary, or None) and ``verdict``
            (of ``Verdict.to_dict``): what the promotion gate decided. None leaves the section out.

    Raises:
        DataError: the dictionary is not a comparison of schema 1, or the file cannot be written.
    """
    record = _record(comparison)
    page = render_report(record, record.get("facts", {}) if facts is None else facts, promotion)
    return save_page(page, path)


def render_report(
    record: Mapping[str, Any], facts: Mapping[str, Any], promotion: Mapping[str, Any] | None = None
) -> str:
    """The page as a string; see ``write_report`` for the arguments."""
    return render_page(
        "report.html.j2",
        _figures(record),
        text.FILTERS,
        record=record,
        headline=text.headline(record),
        facts=_facts(facts),
        settings=_settings(facts),
        wins=_wins(record),
        promotion=promotion,
        subsets=text.narrower(record),
        best={subset["name"]: _best(subset, record["metrics"]) for subset in record["subsets"]},
        main_metric=text.MAIN_METRIC,
        colours={system: charts.colour(system, place) for place, system in enumerate(_systems(record))},
    )


def _record(comparison: Comparison | Mapping[str, Any]) -> dict[str, Any]:
    record = dict(comparison if isinstance(comparison, Mapping) else comparison.to_dict())
    missing = [key for key in ("schema", "collection", "systems", "subsets", "metrics") if key not in record]
    if missing or record["schema"] != 1:
        raise DataError(
            f"not a comparison that this version can show: got schema {record.get('schema')!r}"
            + (f" without {', '.join(missing)}" if missing else "")
            + "; expected schema 1; write it again with this version (`llara evaluate`, or the pipeline)"
        )
    if not record["subsets"] or not record["subsets"][0].get("systems"):
        raise DataError("the comparison holds no judged system; judge at least one before reporting")
    return OPTIONAL | record


def _systems(record: Mapping[str, Any]) -> list[str]:
    return [system["name"] for system in record["systems"]]


def _figures(record: Mapping[str, Any]) -> dict[str, charts.Figure]:
    """All figures by the id of the element that shows them."""
    systems, overall = _systems(record), record["subsets"][0]["systems"]
    figures = {
        f"bars-{metric}": charts.metric_bars(systems, overall, metric)
        for metric in record["metrics"]
        if any(metric in scores for scores in overall.values())
    }
    judged = text.narrower(record)
    if len(judged) > 1:
        figures["subsets"] = charts.subset_bars(systems, judged, text.MAIN_METRIC)
    histories = {stage: rows for stage, rows in record["histories"].items() if rows}
    adaptation = {stage: rows for stage, rows in histories.items() if stage == "adapt"}
    finetuning = {stage: rows for stage, rows in histories.items() if stage != "adapt"}
    if adaptation:
        figures["loss-adaptation"] = charts.loss_curves(adaptation, STAGE_SYSTEMS)
    if finetuning:
        figures["loss-finetuning"] = charts.loss_curves(finetuning, STAGE_SYSTEMS)
    for place, histogram in enumerate(record["length_histograms"]):
        figures[f"length-{place}"] = charts.length_histogram(histogram)
    hero = text.hero(record)
    for against in text.references(record):
        differences = _differences(record, hero, against)
        if differences:
            figures[f"gain-{against}"] = charts.difference_histogram(differences, text.MAIN_METRIC, against)
    return figures


def _best(subset: Mapping[str, Any], metrics: Sequence[str]) -> dict[str, float]:
    """The highest mean of each metric in a subset, to be set bold."""
    means: dict[str, float] = {}
    for scores in subset["systems"].values():
        for metric in metrics:
            if metric in scores:
                means[metric] = max(means.get(metric, 0.0), scores[metric]["mean"])
    return means


def _differences(record: Mapping[str, Any], system: str, against: str) -> list[float]:
    """Per-query difference of nDCG@10, empty where one of the two was not judged."""
    scores = {
        entry["name"]: entry.get("per_query", {}).get(text.MAIN_METRIC, []) for entry in record["systems"]
    }
    pair = zip(scores.get(system, []), scores.get(against, []), strict=False)
    return [mine - other for mine, other in pair]


def _wins(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Queries won, tied and lost against each reference."""
    hero, counts = text.hero(record), []
    for against in text.references(record):
        differences = _differences(record, hero, against)
        if differences:
            won, lost = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
            tied = len(differences) - won - lost
            counts.append({"against": against, "won": won, "tied": tied, "lost": lost})
    return counts


def _facts(facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Run facts as titled groups of rows; lone values come first, under "Run"."""
    lone = {key: value for key, value in facts.items() if not isinstance(value, Mapping)}
    groups = [{"title": "Run", "rows": _rows(lone)}] if lone else []
    for key, value in facts.items():
        if isinstance(value, Mapping) and key != "settings" and value:
            # A duration is a number of seconds; it is told in minutes where it is long.
            rows = {k: text.duration(v) for k, v in value.items()} if key == "durations" else value
            groups.append({"title": str(key).replace("_", " ").capitalize(), "rows": _rows(rows)})
    return groups


def _rows(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    def show(value: Any) -> str:
        if isinstance(value, Mapping):
            return ", ".join(f"{key}: {show(part)}" for key, part in value.items())
        if isinstance(value, Sequence) and not isinstance(value, str):
            return ", ".join(show(part) for part in value) or "none"
        return text.MISSING if value is None else str(value)

    return [(str(key).replace("_", " "), show(value)) for key, value in values.items()]


def _settings(facts: Mapping[str, Any]) -> str:
    settings = facts.get("settings")
    return yaml.safe_dump(settings, sort_keys=False, allow_unicode=True) if settings else ""
