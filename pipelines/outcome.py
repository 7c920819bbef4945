"""What a finished run tells the person who started it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from llara_core.evaluation.comparison import BASELINE, WITHOUT_ADAPTATION, Comparison
from llara_core.evaluation.report_charts import subset_name
from llara_core.evaluation.report_text import narrower
from pipelines import champions
from steps.stored.comparison import open_comparison
from steps.workspace import (
    DATA_DOCS_PAGE,
    DATA_REPORT_PAGE,
    audit_page_of,
    publish_page,
    publish_report,
    reports_folder,
)

HEADINGS = {
    "ndcg_at_10": "nDCG@10",
    "mrr_at_10": "MRR@10",
    "recall_at_100": "recall@100",
    "map_at_100": "MAP@100",
}
MAIN_METRIC = "ndcg_at_10"


def show(run: Any, console: Console) -> None:
    """Print table, registration, promotion, report and where to look further.

    Args:
        run: the finished pipeline run.
        console: where to print.
    """
    comparison = open_comparison(_output(run, "evaluate", "evaluation"))
    console.print()
    console.print(table(comparison))
    if (subsets := subset_table(comparison)) is not None:
        console.print(subsets)
    for note in comparison.notes:
        console.print(f"Note: {note}", highlight=False)
    promotion: Mapping[str, Any] = _output(run, "promote", "promotion")
    _show_promotion(promotion, console)
    # Steps from the cache wrote their pages in an earlier run, and another run may have replaced them since.
    figures = json.dumps(comparison.to_dict())
    report = publish_report(_output(run, "report", "report"), comparison.collection["name"], figures)
    data_docs = publish_page(_output(run, "validate", "data_docs"), DATA_DOCS_PAGE)
    console.print(f"[bold]Report[/]     {report}", highlight=False, soft_wrap=True)
    data = publish_page(_output(run, "data_report", "data_report"), DATA_REPORT_PAGE)
    console.print(f"[bold]Data[/]       {data}", highlight=False, soft_wrap=True)
    console.print(f"[bold]Data Docs[/]  {data_docs}", highlight=False, soft_wrap=True)
    for step in sorted((one for one in run.steps if one.startswith("audit")), key=len):
        audit = publish_page(_output(run, step, "mining_audit"), audit_page_of(step))
        console.print(f"[bold]Negatives[/]  {audit}", highlight=False, soft_wrap=True)
    # From a remote store the whole model would be fetched, only to name its folder.
    if promotion["promoted"] and _store_is_local():
        arm = promotion["system"] if promotion["system"] == WITHOUT_ADAPTATION else None
        step = "finetune_without_adaptation" if arm else last_round(run.steps)
        folders = (
            _output(run, step, "finetuned_model"),
            _output(run, "accept", "collection"),
        )
        command = champions.search_command(promotion["name"], *(one.path for one in folders))
        if command:
            console.print(f"[bold]Search[/]     {escape(command)}", highlight=False, soft_wrap=True)
            serve = champions.serve_command(promotion["name"], comparison.collection["name"])
            console.print(f"[bold]Serve[/]      {escape(serve)}", highlight=False, soft_wrap=True)
    console.print("[bold]Look on[/]    make mlflow-ui   (runs, curves, models)   make zenml-ui   (lineage)")


def show_adaptation(run: Any, console: Console) -> None:
    """Print the losses on held-out passages, the registration, and how to start a training run from it.

    Args:
        run: the finished run of the adaptation pipeline.
        console: where to print.
    """
    judgement = _output(run, "judge_adaptation", "adaptation_judgement")
    console.print()
    console.print(losses_table(judgement))
    if (page := reports_folder()) is not None and (page / DATA_REPORT_PAGE).is_file():
        console.print(f"[bold]Data[/]       {page / DATA_REPORT_PAGE}", highlight=False, soft_wrap=True)
    promotion: Mapping[str, Any] = _output(run, "promote_adapted", "promotion")
    _show_promotion(promotion, console)
    if promotion["version"] is not None:
        alias = "@champion" if promotion["promoted"] else f"/{promotion['version']}"
        console.print(
            f"[bold]Start from it[/] with model.base: models:/{promotion['name']}{alias}", highlight=False
        )
    console.print("[bold]Look on[/]    make mlflow-ui   (runs, curves, models)   make zenml-ui   (lineage)")


def losses_table(judgement: Mapping[str, Any]) -> Table:
    """Losses of the base and the adapted model on held-out passages."""
    terms = [name for name in judgement["base"] if name != "cosine"]
    result = Table(
        title=f"{judgement['rows']} passages held out from adaptation",
        caption="Losses in nats; cosine: mean over pairs of passages, near 1 if the embedding collapsed.",
    )
    result.add_column("model", no_wrap=True)
    for name in (*terms, "cosine"):
        result.add_column(name.replace("_", " "), justify="right", no_wrap=True)
    for model in ("base", "adapted"):
        result.add_row(model, *(f"{judgement[model][name]:.4f}" for name in (*terms, "cosine")))
    return result


def _show_promotion(promotion: Mapping[str, Any], console: Console) -> None:
    if promotion["version"] is None:
        console.print("[bold]Registered[/] nothing: the stack has no MLflow model registry.")
        return
    alias = "champion" if promotion["promoted"] else "challenger"
    console.print(
        f"[bold]Registered[/] {promotion['name']} version {promotion['version']}, "
        f"alias [bold]{alias}[/]: {promotion['reason']}.",
        highlight=False,
    )


def table(comparison: Comparison) -> Table:
    """Systems and metrics, with the change in nDCG@10 against BM25 and against the unadapted arm."""
    data = comparison.collection
    rows: dict[str, dict[str, Mapping[str, Any]]] = {}
    for row in comparison.table():
        rows.setdefault(row["system"], {})[row["metric"]] = row
    result = Table(
        title=f"{data['name']}, {data['split']} split: "
        f"{data['queries']} queries, {data['documents']} documents",
        caption="Changes are in nDCG@10, with the p-value of a paired randomisation test.",
    )
    result.add_column("system", no_wrap=True)
    for metric in comparison.metrics:
        result.add_column(HEADINGS.get(metric, metric), justify="right", no_wrap=True)
    arms = [(BASELINE, "versus_bm25", "p_bm25", "against BM25")]
    if WITHOUT_ADAPTATION in rows:
        arms.append(
            (WITHOUT_ADAPTATION, "versus_without_adaptation", "p_without_adaptation", "against unadapted")
        )
    for _, _, _, heading in arms:
        result.add_column(heading, justify="right", no_wrap=True)
    best = max(rows, key=lambda system: rows[system][MAIN_METRIC]["value"])
    for system, by_metric in rows.items():
        values = [f"{by_metric[metric]['value']:.4f}" for metric in comparison.metrics]
        changes = [_change(by_metric[MAIN_METRIC], gain, p_value) for _, gain, p_value, _ in arms]
        result.add_row(system, *values, *changes, style="bold" if system == best else None)
    return result


def subset_table(comparison: Comparison) -> Table | None:
    """nDCG@10 on the leak-free subsets beside the whole split; None where they leave nothing out."""
    subsets = narrower(comparison.to_dict())
    if len(subsets) == 1:
        return None
    result = Table(title="nDCG@10 without the queries that training may have given away")
    result.add_column("system", no_wrap=True)
    for subset in subsets:
        result.add_column(f"{subset_name(subset['name'])} ({subset['queries']})", justify="right")
    for system in subsets[0]["systems"]:
        values = [subset["systems"][system][MAIN_METRIC]["mean"] for subset in subsets]
        result.add_row(system, *(f"{value:.4f}" for value in values))
    return result


def last_round(steps: Iterable[str]) -> str:
    """Name of the step that fine-tuned last: that of the last round of mining."""
    rounds = [name for name in steps if re.fullmatch(r"finetune(_round_[0-9]+)?", name)]
    return max(rounds, key=lambda name: int(name.removeprefix("finetune").removeprefix("_round_") or 1))


def _change(row: Mapping[str, Any], gain: str, p_value: str) -> str:
    if row[gain] is None:
        return "\N{EN DASH}"
    p = row[p_value]
    return f"{row[gain]:+.4f} ({'p < 0.001' if p < 0.001 else f'p = {p:.3f}'})"


def _store_is_local() -> bool:
    from zenml.client import Client

    return bool(Client().active_stack.artifact_store.config.is_local)


def _output(run: Any, step: str, output: str) -> Any:
    return run.steps[step].outputs[output][0].load()
