"""Who may import whom, and that the library works without the packages it must not need."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
FORBIDDEN = ("zenml", "mlflow", "great_expectations", "faiss", "datasets", "datasketch")

# None in sys.modules makes an import fail and find_spec return None: as if it were not installed. (A finder
# that raises would break transformers too, which asks find_spec what there is.)
IMPORT_ALL = f"""
import importlib, pkgutil, sys
sys.modules.update(dict.fromkeys({FORBIDDEN!r}))
import llara_core
names = [one.name for one in pkgutil.walk_packages(llara_core.__path__, "llara_core.")]
names = [name for name in names if not name.endswith("__main__")]
for name in names:
    importlib.import_module(name)
print(len(names))
"""


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, cwd=REPOSITORY, timeout=300, check=False
    )


def test_import_contracts_hold():
    done = python("-c", "from importlinter.cli import lint_imports_command as c; c()")
    assert done.returncode == 0, done.stdout + done.stderr
    assert " kept, 0 broken" in done.stdout


def test_every_module_imports_without_optional_packages():
    done = python("-c", IMPORT_ALL)
    assert done.returncode == 0, done.stderr
    modules = [one for one in (REPOSITORY / "llara_core").rglob("*.py") if one.name != "__main__.py"]
    assert int(done.stdout) == len(modules) - 1  # all but llara_core itself


def test_forbidden_packages_are_out_of_reach_there():
    start = IMPORT_ALL.partition("import llara_core")[0]
    for name in FORBIDDEN:
        done = python("-c", f"{start}\nimport {name}")
        assert done.returncode != 0 and "ModuleNotFoundError" in done.stderr


def test_packages_stay_empty():
    """ZenML's step cache follows modules: an import in a package's ``__init__`` would tie rooms together."""
    for file in (REPOSITORY / "llara_core").rglob("__init__.py"):
        if file.parent.name != "llara_core":
            lines = file.read_text(encoding="utf-8").splitlines()
            top = [
                line for line in lines if line.startswith(("import ", "from ")) and "__future__" not in line
            ]
            assert top == [], file
