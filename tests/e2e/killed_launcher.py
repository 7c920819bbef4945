"""``python -m pipelines`` that kills itself: ``python -m tests.e2e.killed_launcher STEP:MOMENT training …``.

MOMENT is ``before`` (the step has begun, none of its code has run), ``inside`` (at the first file that its
code writes below the local state, or at its end where it writes none) or ``storing`` (its code has returned;
at the first file of its artifacts).
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

_WRITES = {
    "os.rename",
    "os.mkdir",
    "os.link",
    "os.remove",
    "shutil.copyfile",
    "shutil.move",
    "shutil.copytree",
}


class Killer:
    """Watches what the process does to files, and kills it when it is armed."""

    def __init__(self, below: str) -> None:
        self.below, self.armed = below, False
        sys.addaudithook(self.audit)

    def audit(self, event: str, values: tuple[Any, ...]) -> None:
        if not self.armed or (event != "open" and event not in _WRITES):
            return
        if event == "open" and not set(str(values[1] or "")) & set("wax+"):
            return
        if any(self.below in str(value) for value in values):
            strike()


def strike() -> None:
    """What no handler survives."""
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Patch ZenML, and launch."""
    step, moment = sys.argv[1].split(":")
    sys.argv = ["pipelines", *sys.argv[2:]]
    from pipelines import environment, quiet

    environment.apply()
    quiet.before_imports()
    from zenml.steps.base_step import BaseStep
    from zenml.steps.step_context import StepContext

    whole = BaseStep.call_entrypoint
    local = str(environment.local_folder())
    inside, storing = Killer(local), Killer(f"{local}/artifacts")

    def call(self: BaseStep, *given: Any, **named: Any) -> Any:
        context = StepContext.get()
        if context is None or context.step_run.name != step:
            return whole(self, *given, **named)
        if moment == "before":
            strike()
        inside.armed = moment == "inside"
        result = whole(self, *given, **named)
        if moment == "inside":
            strike()
        storing.armed = True
        return result

    BaseStep.call_entrypoint = call  # type: ignore[method-assign]
    from pipelines.__main__ import app

    app()


if __name__ == "__main__":
    main()
