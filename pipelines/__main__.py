"""Run a pipeline with everything checked first and the outcome told at the end.

``python -m pipelines training -c configs/demo.yaml`` is what ``make run`` calls. ``zenml pipeline
run pipelines.training.training_pipeline -c configs/demo.yaml`` does the same work,
after the same check of the file, without the words.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from llara_core.errors import ConfigError, LlaraError
from llara_core.operations import alerts, logs
from pipelines import environment, faults, interrupts, unattended

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks and every log line.")]


Stack = Annotated[str | None, typer.Option("--stack", "-s", help="ZenML stack; default: llara-local.")]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Run every step, cached or not.")]
Config = Annotated[Path, typer.Option("--config", "-c", help="Run configuration.")]


# Each pipeline that can be started: its configuration where none is named, and what --help says of it.
_COMMANDS = {
    "training": ("demo", "Train, judge and register a retriever."),
    "adaptation": (
        "adaptation",
        "Adapt a decoder once on unlabelled text, and register it for later training runs to start from.",
    ),
    "evaluation": (
        "evaluation", "Judge registered versions, model folders and BM25 on a list of collections.",
    ),
    "indexing": (
        "indexing",
        "Make the champion's index of the corpus; if the canary agrees, model and index serve together.",
    ),
    "retraining": (
        "retraining", "Look at corpus, queries and champion; train, refresh the live index, or do nothing.",
    ),
    "sharded": (
        "sharded",
        "Encode a corpus and mine negatives in parts: a pod each on Kubernetes, a thread each here.",
    ),
}  # fmt: skip


def _command(kind: str, configuration: str) -> Callable[..., None]:
    """The command that starts a pipeline."""
    alarm: alerts.Kind = "tick failed" if kind == "retraining" else "run failed"

    def start(
        config: Config = Path(f"configs/{configuration}.yaml"),
        stack: Stack = None,
        no_cache: NoCache = False,
        debug: Debug = False,
    ) -> None:
        _exit(lambda: _run(kind, config, stack, no_cache, debug), debug, alarm)

    return start


for _kind, (_configuration, _help) in _COMMANDS.items():
    app.command(_kind, help=_help)(_command(_kind, _configuration))


@app.command()
def stack(debug: Debug = False) -> None:
    """Import the stack llara-local and write .local/env."""
    _exit(_stack, debug)


def _run(kind: str, config: Path, stack_name: str | None, no_cache: bool, debug: bool) -> None:
    started = time.monotonic()
    settings_type = _check(kind, config)
    _say(f"Starting: {config} (state in {environment.local_folder()})")

    from pipelines import quiet

    quiet.before_imports()
    from pipelines import evaluation_outcome, kubernetes_outcome, orphans, run_configuration, stacks
    from steps import hooks

    steps, pipeline = _pipeline(kind)
    if not debug:
        quiet.hush()
    hooks.structured_logs()
    run_configuration.check(config, steps, settings_type)
    identity = stacks.stack_id(stack_name) if stack_name else stacks.ensure_local_stack()
    # The choice holds for this process alone; the user's active stack stays what it is.
    os.environ["ZENML_ACTIVE_STACK_ID"] = identity
    orphans.close(environment.local_folder())
    incomplete: BaseException | None = None
    with run_configuration.for_this_run(config, no_cache) as file:
        try:
            run: Any = kubernetes_outcome.watched(kind, pipeline.with_options(config_path=str(file)))
        except Exception as error:
            # What an evaluation could judge is shown, whatever else of it failed.
            run, incomplete = evaluation_outcome.unfinished_run(kind, _chain(error)), error
    _show(kind, run, time.monotonic() - started)
    if incomplete is not None:
        raise incomplete


def _show(kind: str, run: Any, seconds: float) -> None:
    """Print what a run has found out; of one that goes on elsewhere, only its name."""
    from rich.console import Console

    from pipelines import evaluation_outcome, indexing_outcome, outcome, retraining_outcome, sharded_outcome

    console = Console(width=None if sys.stdout.isatty() else 132)
    if not run.status.is_finished:  # `synchronous: false`
        words = f"[bold]Started[/]    {run.name}; `zenml pipeline runs list` says how it goes"
        console.print(words, highlight=False)
        return
    shown = {
        "training": outcome.show,
        "adaptation": outcome.show_adaptation,
        "indexing": indexing_outcome.show,
        "retraining": retraining_outcome.show,
        "sharded": sharded_outcome.show,
    }
    shown.get(kind, evaluation_outcome.show)(run, console)
    console.print(f"[bold]Took[/]       {seconds:.0f} s", highlight=False)


def _check(kind: str, config: Path) -> Any:
    """Check settings, data and registry, and make the environment; returns the kind of settings.

    Settings are read before ZenML is imported: a typing error is told in a second, not in ten.
    """
    from llara_core.config import AdaptationSettings, TrainingSettings
    from llara_core.evaluation_settings import EvaluationSettings
    from llara_core.indexing_settings import IndexingSettings
    from llara_core.retraining_settings import RetrainingSettings
    from llara_core.settings import load_yaml
    from llara_core.sharded_settings import ShardedSettings
    from pipelines import preflight

    kinds: dict[str, Any] = {
        "training": TrainingSettings,
        "adaptation": AdaptationSettings,
        "evaluation": EvaluationSettings,
        "indexing": IndexingSettings,
        "retraining": RetrainingSettings,
        "sharded": ShardedSettings,
    }
    settings_type = kinds[kind]
    settings = settings_type.parse(load_yaml(config).get("parameters"), "parameters")
    needed = settings
    if kind == "indexing":
        trained = settings.trained(environment.REPOSITORY)
        preflight.check_indexing(trained, environment.local_folder())
        environment.apply()
        preflight.check_champion(trained.registry.model_name)
        environment.write_files()
        return settings_type
    if kind == "retraining":  # a tick needs what its training needs: data and a start
        needed = settings.trained(environment.REPOSITORY)
        settings.indexing_values(environment.REPOSITORY)
    preflight.check(needed, environment.local_folder())
    environment.apply()
    preflight.check_registry(needed)
    environment.write_files()
    return settings_type


def _pipeline(kind: str) -> tuple[Any, Any]:
    """Names of the steps, or what gives them, and the pipeline; imported late, since ZenML takes seconds."""
    if kind not in _COMMANDS:
        raise ConfigError(f"no pipeline is called {kind!r}")
    module = import_module(f"pipelines.{kind}")
    steps = getattr(module, "step_names", None) or module.STEPS
    return steps, getattr(module, f"{kind}_pipeline")


def _stack() -> None:
    environment.apply()
    files = environment.write_files()
    from pipelines import quiet, stacks

    stacks.ensure_local_stack()
    quiet.hush()
    _say(f"Stack {stacks.LOCAL_STACK} is ready; `source {files[0]}` shows it to your shell.")


def _exit(work: Any, debug: bool, kind: alerts.Kind = "run failed") -> None:
    """Run the work; an error becomes one message and an exit code.

    0 all went well, 1 failed or interrupted, 2 the user's input cannot be used.
    """
    try:
        with interrupts.Heeded():
            work()
    except BaseException as error:
        if isinstance(error, SystemExit):
            raise
        code, message = _judge(error)
        if debug:
            traceback.print_exc()
        _say(f"llara: {message}", "ERROR")
        if not message.startswith("interrupted"):
            unattended.alarm(message, kind)
        sys.exit(code)


def _judge(error: BaseException) -> tuple[int, str]:
    """Exit code and message of an error, found in its chain of causes."""
    names = {type(one).__name__ for one in _chain(error)}
    if isinstance(error, KeyboardInterrupt) or names & {"RunStoppedException", "RunInterruptedException"}:
        return 1, "interrupted; nothing was registered or promoted"
    for one in _chain(error):
        if isinstance(one, LlaraError):
            return one.exit_code, str(one)
    if (words := faults.of_the_surroundings(_chain(error))) is not None:
        return 1, words
    return 1, f"failed: {type(error).__name__}: {error} (run again with --debug for the traceback)"


def _chain(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def _say(message: str, level: str = "INFO") -> None:
    logs.say(message, level)


if __name__ == "__main__":
    app()
