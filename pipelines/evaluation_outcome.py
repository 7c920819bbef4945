"""What a finished evaluation tells the person who started it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from llara_core.evaluation.beir_table import render_table
from llara_core.evaluation.report_charts import subset_name
from llara_core.evaluation.side_by_side_text import claims
from steps.all_judged import IncompleteEvaluationError
from steps.stored.side_by_side import open_page, open_record, open_summary
from steps.workspace import EVALUATION_PAGE, publish_page


def show(run: Any, console: Console) -> None:
    """Print a table of every system, what differs between them, and where the page is.

    Args:
        run: the run of the evaluation pipeline, finished or failed in its very last step.
        console: where to print.
    """
    artifact = run.steps["side_by_side"].outputs["side_by_side"][0].load()
    summary = open_summary(artifact)
    for table in summary["tables"]:
        console.print(f"\n[bold]{escape(table['system'])}[/]", highlight=False)
        console.print(render_table(table), markup=False, highlight=False, soft_wrap=True)
    for name, one in summary["collections"].items():
        if (leak_free := subset_table(name, one)) is not None:
            console.print(leak_free)
    console.print()
    record, page = open_record(artifact), open_page(artifact)
    if record is not None and page is not None:
        for claim in claims(record):
            console.print(claim["text"], markup=False, highlight=False)
        # The step that published it may have been followed by another run's.
        path = publish_page(page, EVALUATION_PAGE)
        console.print(f"[bold]Comparison[/] {path}", highlight=False, soft_wrap=True)
    console.print("[bold]Look on[/]    make mlflow-ui   (metrics, TREC runs)   make zenml-ui   (lineage)")


def subset_table(name: str, scores: Mapping[str, Any]) -> Table | None:
    """nDCG@10 of every system on the split and on its leak-free subsets; None where nothing leaks.

    Args:
        name: of the collection.
        scores: its entry in the summary.
    """
    subsets = {key: one for key, one in scores["subsets"].items() if one["queries"] < scores["queries"]}
    if not subsets:
        return None
    result = Table(title=f"{name}: nDCG@10 without the queries that its training split gives away")
    result.add_column("system", no_wrap=True)
    columns = {"all": scores, **subsets}
    for key, one in columns.items():
        result.add_column(f"{subset_name(key)} ({one['queries']})", justify="right")
    for system in scores["systems"]:
        values = [one["systems"][system]["ndcg_at_10"] for one in columns.values()]
        result.add_row(system, *(f"{value:.4f}" for value in values))
    return result


def unfinished_run(kind: str, errors: Sequence[BaseException]) -> Any:
    """The run of an evaluation that judged what it could and then failed, for ``show``.

    Args:
        kind: of the pipeline.
        errors: the error that ended the run, and its causes.

    Raises:
        BaseException: the first of the errors, where the run did not come as far as that.
    """
    if kind != "evaluation" or not any(isinstance(one, IncompleteEvaluationError) for one in errors):
        raise errors[0]
    from zenml.client import Client

    return Client().list_pipeline_runs(pipeline=kind, sort_by="desc:created", size=1, hydrate=True).items[0]
