"""What users may import: exactly the names of ``__all__``, and cheaply."""

from __future__ import annotations

import subprocess
import sys

import pytest

import llara_core

PUBLIC = ["Collection", "LlaraError", "Retriever", "__version__"]


def test_public_names_are_these():
    """Adding a name is a promise to keep it; removing one breaks users."""
    assert sorted(llara_core.__all__) == sorted(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_public_name_resolves(name):
    assert getattr(llara_core, name) is not None


def test_names_live_where_they_are_said_to():
    assert llara_core.Retriever.__module__ == "llara_core.model.retriever"
    assert llara_core.Collection.__module__ == "llara_core.data.collection"
    assert llara_core.LlaraError.__module__ == "llara_core.errors"


def test_other_names_are_refused_with_the_public_ones():
    with pytest.raises(AttributeError, match=r"'Retreiver'; public names: .*Retriever"):
        _ = llara_core.Retreiver


def test_import_and_help_load_no_heavy_package():
    code = (
        "import sys, llara_core.cli.app; "
        "print(sorted({'torch', 'transformers', 'faiss', 'plotly', 'pandas', 'bm25s'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "[]"
