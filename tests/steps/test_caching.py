from __future__ import annotations

from pathlib import Path

import pytest

from steps.caching import ROOT, closure, never, policy


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def test_closure_follows_every_kind_of_import_and_nothing_else(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "steps/__init__.py": "",
            "steps/one.py": "import llara_core.a\nfrom llara_core.room import b\nimport json, numpy\n",
            "steps/other.py": "",
            "llara_core/__init__.py": "from llara_core.public import thing\n",
            "llara_core/public.py": "",
            "llara_core/a.py": "def f():\n    from llara_core.late import x\n",
            "llara_core/late.py": "x = 1\n",
            "llara_core/room/__init__.py": "",
            "llara_core/room/b.py": "from .c import y\nfrom .. import e\n",
            "llara_core/room/c.py": (
                "from typing import TYPE_CHECKING\n"
                "if TYPE_CHECKING:\n    from llara_core.only_types import T\n"
                "else:\n    from llara_core.runtime import T\ny = 1\n"
            ),
            "llara_core/e.py": "",
            "llara_core/only_types.py": "",
            "llara_core/runtime.py": "T = 1\n",
            "llara_core/unused.py": "",
        },
    )
    assert closure(tmp_path / "steps/one.py", tmp_path) == [
        "llara_core/__init__.py",
        "llara_core/a.py",
        "llara_core/e.py",
        "llara_core/late.py",
        "llara_core/room/__init__.py",
        "llara_core/room/b.py",
        "llara_core/room/c.py",
        "llara_core/runtime.py",
        "steps/one.py",
    ]


def test_a_name_of_the_package_itself_follows_its_init(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "steps/one.py": "from llara_core import thing\n",
            "llara_core/__init__.py": "from llara_core.public import thing\n",
            "llara_core/public.py": "thing = 1\n",
        },
    )
    assert "llara_core/public.py" in closure(tmp_path / "steps/one.py", tmp_path)


def test_an_import_cycle_ends(tmp_path: Path) -> None:
    write(tmp_path, {"steps/a.py": "import steps.b\n", "steps/b.py": "import steps.a\n"})
    assert closure(tmp_path / "steps/a.py", tmp_path) == ["steps/a.py", "steps/b.py"]


@pytest.mark.parametrize(
    ("step", "uses", "uses_not"),
    [
        ("ingest", "llara_core/data/formats.py", "llara_core/training/adapt.py"),
        ("ingest", "llara_core/data/ingest.py", "llara_core/data/leaks.py"),
        ("segment", "llara_core/data/passages.py", "llara_core/data/pycode.py"),
        ("segment", "steps/stored/leaks.py", "llara_core/data/duplicates.py"),
        ("validate", "llara_core/data/quality.py", "llara_core/model/bundle.py"),
        ("validate_negatives", "steps/expectations.py", "llara_core/retrieval/mining.py"),
        ("duplicates", "llara_core/data/duplicates.py", "llara_core/data/leaks.py"),
        ("leaks", "llara_core/data/leaks.py", "llara_core/data/formats.py"),
        ("recall", "steps/accepted.py", "llara_core/data/leaks.py"),
        ("accept", "llara_core/data/duplicates.py", "llara_core/data/formats.py"),
        ("data_report", "llara_core/evaluation/data_page.py", "llara_core/data/formats.py"),
        ("prepare", "llara_core/model/backbone.py", "llara_core/training/finetune.py"),
        ("adapt", "llara_core/training/adapt.py", "llara_core/training/finetune.py"),
        ("mine", "llara_core/retrieval/mining.py", "llara_core/training/adapt.py"),
        ("mine", "llara_core/retrieval/audit.py", "llara_core/evaluation/audit_page.py"),
        ("audit", "llara_core/evaluation/audit_page.py", "llara_core/model/retriever.py"),
        ("finetune", "llara_core/training/finetune.py", "llara_core/evaluation/metrics.py"),
        ("evaluate", "llara_core/evaluation/metrics.py", "llara_core/evaluation/report.py"),
        ("report", "llara_core/evaluation/report.py", "llara_core/retrieval/bm25.py"),
        ("register", "llara_core/model/retriever.py", "llara_core/evaluation/report.py"),
        ("ingest_text", "llara_core/data/text_folder.py", "llara_core/training/adapt.py"),
        ("admit", "llara_core/data/quality.py", "llara_core/model/retriever.py"),
        ("judge_system", "llara_core/evaluation/metrics.py", "llara_core/evaluation/side_by_side.py"),
        ("side_by_side", "llara_core/evaluation/side_by_side_page.py", "llara_core/model/retriever.py"),
        ("judge_adaptation", "llara_core/training/adaptation_loss.py", "llara_core/training/finetune.py"),
    ],
)
def test_a_step_depends_on_what_it_uses_only(step: str, uses: str, uses_not: str) -> None:
    assert (ROOT / uses).is_file() and (ROOT / uses_not).is_file()
    files = closure(ROOT / "steps" / f"{step}.py")
    assert uses in files
    assert uses_not not in files


def test_no_step_has_several_outputs() -> None:
    """ZenML's cache key depends on their order, which changes with the hash seed of the process."""
    from zenml.steps import BaseStep

    from pipelines import adaptation, evaluation, training

    steps = [value for value in vars(training).values() if isinstance(value, BaseStep)]
    assert len(steps) == len(training.STEPS) - 1  # finetune stands for two
    assert all(name.startswith("validate_") or name in training.STEPS for name in (one.name for one in steps))
    others = [value for value in vars(adaptation).values() if isinstance(value, BaseStep)]
    assert len(others) == len(adaptation.STEPS) - 1  # hold_out stands for two
    steps += others
    steps += [value for value in vars(evaluation).values() if isinstance(value, BaseStep)]
    assert {one.name: len(one.entrypoint_definition.outputs) for one in steps} == {
        one.name: 1 for one in steps
    }


def test_data_files_belong_to_the_policy() -> None:
    files = policy(str(ROOT / "steps/validate.py"), "configs/expectations").file_dependencies
    assert files is not None and "configs/expectations/corpus.json" in files


def test_missing_data_is_refused() -> None:
    with pytest.raises(FileNotFoundError, match="no_such_folder"):
        policy(str(ROOT / "steps/validate.py"), "no_such_folder")


def test_never_gives_a_new_key_every_time() -> None:
    from zenml.utils import source_utils

    key = source_utils.load(never().cache_func)
    assert key() != key()
