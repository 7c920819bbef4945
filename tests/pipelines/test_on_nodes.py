"""Training on several machines as it is wired: request → pods → model, compiled for a Kubernetes stack."""

from __future__ import annotations

from typing import Any

import pytest

from llara_core.config import AdaptationSettings, TrainingSettings
from llara_core.errors import LlaraError

CLUSTER = {
    "orchestrator": {"kubernetes_context": "none", "skip_local_validations": True},
    "step_operator": {"kubernetes_context": "none", "kubernetes_namespace": "zenml"},
}
PODS = {"pod_settings": {"resources": {"limits": {"nvidia.com/gpu": "8"}}}}


@pytest.fixture(scope="module")
def stack() -> Any:
    """A Kubernetes stack in the test's own ZenML state; nothing is asked of a cluster."""
    pytest.importorskip("kubernetes", reason="the extra `kubernetes` is not installed")
    from zenml.client import Client
    from zenml.enums import StackComponentType

    client = Client()
    components: dict[Any, str] = {}
    for kind, configuration in CLUSTER.items():
        made = client.create_stack_component(
            f"nodes-{kind}", "kubernetes", StackComponentType(kind), configuration
        )
        components[StackComponentType(kind)] = str(made.id)
    registry = client.create_stack_component(
        "nodes-registry", "default", StackComponentType.CONTAINER_REGISTRY, {"uri": "registry.example.com"}
    )
    default = client.get_stack("default").components[StackComponentType.ARTIFACT_STORE][0]
    components[StackComponentType.CONTAINER_REGISTRY] = str(registry.id)
    components[StackComponentType.ARTIFACT_STORE] = str(default.id)
    client.create_stack("nodes", components)
    before = client.active_stack_model.id
    client.activate_stack("nodes")
    yield client
    client.activate_stack(before)


def compiled(pipeline: Any, parameters: dict[str, Any], steps: dict[str, Any]) -> dict[str, Any]:
    from zenml.client import Client
    from zenml.config.compiler import Compiler
    from zenml.config.pipeline_run_configuration import PipelineRunConfiguration

    pipeline = pipeline.copy()
    pipeline.prepare(**parameters)
    given = PipelineRunConfiguration.model_validate({
        "settings": {"docker": {"skip_build": True, "parent_image": "registry.example.com/llara:1"}},
        "steps": steps,
    })  # fmt: skip
    found = Compiler().compile(pipeline=pipeline, stack=Client().active_stack, run_configuration=given)
    return dict(found.step_configurations)


def operator(step: Any) -> dict[str, Any]:
    """Settings of the step operator, by whichever key ZenML keeps them."""
    [found] = [value for key, value in step.config.settings.items() if key.startswith("step_operator")]
    return dict(found.model_dump())


def test_a_stack_without_a_step_operator_is_refused() -> None:
    from pipelines.training import training_pipeline

    with pytest.raises(LlaraError, match=r"launch.nodes is 2, and the active stack has no step operator"):
        compiled(training_pipeline, {"launch": {"nodes": 2}}, {})


def test_the_model_comes_from_the_request_and_the_pods(stack: Any) -> None:
    from pipelines.training import step_names, training_pipeline

    parameters = {"launch": {"nodes": 2, "processes": 8}, "mine": {"rounds": 2}}
    own = {"settings": {"step_operator.kubernetes": PODS}}
    steps = compiled(training_pipeline, parameters, {"adapt_on_nodes": own})
    assert set(steps) < set(step_names(TrainingSettings.parse(parameters, "")))
    for name in ("adapt", "finetune", "finetune_round_2", "finetune_without_adaptation"):
        request, pods = f"request_{name}", f"{name}_on_nodes"
        command = steps[pods].config.command
        assert command[:3] == ["python", "-m", "llara_core.training.nodes"]
        asked = steps[request].config.parameters["name"]
        assert command[3] == asked and asked.startswith(f"{name}-")
        assert steps[pods].config.step_operator and steps[pods].spec.upstream_steps == [request]
        assert set(steps[name].spec.upstream_steps) == {request, pods}
        assert steps[name].spec.inputs.keys() == {"request"}
        assert operator(steps[pods])["pod_count"] == 2
        assert steps[name].config.failure_hook_source  # of the pipeline; they do not stop a command step
    merged = operator(steps["adapt_on_nodes"])
    assert merged["pod_settings"]["resources"] == PODS["pod_settings"]["resources"]
    assert {"validate_mine", "mine", "accept", "adapt"} == set(steps["request_finetune"].spec.upstream_steps)


def test_a_requests_name_is_that_of_the_same_settings_only(stack: Any) -> None:
    from pipelines.adaptation import adaptation_pipeline, step_names

    def name(**more: Any) -> str:
        parameters = {"launch": {"nodes": 2}, **more}
        steps = compiled(adaptation_pipeline, parameters, {})
        assert set(steps) < set(step_names(AdaptationSettings.parse(parameters, "")))
        return str(steps["request_adapt"].config.parameters["name"])

    assert name() == name() != name(seed=1)
