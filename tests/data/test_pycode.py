"""The built-in collection, built from small packages written into a folder on the import path."""

import ast
import re
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from llara_core.config import PycodeSettings
from llara_core.data.collections import BUILT_IN, build_collection, collection_fingerprint
from llara_core.data.pycode import pycode_fingerprint, pycode_tables
from llara_core.data.pycode_source import clean_text, module_name, parse_module, summary_of
from llara_core.data.shingles import SeenTexts, shingles
from llara_core.errors import ConfigError, DataError

NOUNS = ["apple", "bridge", "candle", "desert", "engine", "forest", "garden", "hammer", "island", "jacket"]
VERBS = ["peel", "cross", "light", "water", "start", "plant", "weed", "swing", "map", "sew"]


def function(noun: str, verb: str) -> str:
    body = "\n".join(f"    {noun}_{i} = {verb}_{noun}(first, {i}) + {verb}" for i in range(6))
    summary = f'    """How to {verb} one {noun} with {noun}{verb} care."""'
    return f"def {verb}_{noun}(first):\n{summary}\n{body}\n    return {noun}_5\n"


def install(root: Path, name: str, modules: dict[str, str], version: str = "1.0") -> None:
    info = root / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "RECORD").write_text("".join(f"{path},,\n" for path in modules))
    for path, text in modules.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    modules = {
        f"toy/{noun}.py": "import nothing_that_exists\n" + "\n".join(function(noun, v) for v in VERBS)
        for noun in NOUNS
    }
    modules["toy/broken.py"] = "def (:\n"
    modules["toy/tests/test_apple.py"] = function("test", "test")
    modules["toy/_vendor/copy.py"] = function("vendored", "copy")
    modules["toy/zcopy.py"] = function("apple", "peel")
    install(tmp_path, "toy", modules)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


SETTINGS = PycodeSettings(packages=("toy",), max_functions=1000, test_queries=20, dev_queries=10)


def test_every_function_answers_its_own_query_once(packages: Path) -> None:
    tables = pycode_tables(SETTINGS)
    ids = tables.corpus["_id"].to_pylist()
    judged = [row for table in tables.qrels.values() for row in table.to_pylist()]
    assert len(ids) == len(set(ids)) == len(judged) == 100
    assert {row["corpus_id"] for row in judged} == set(ids)
    assert all(row["query_id"] == "q:" + row["corpus_id"] and row["score"] == 1 for row in judged)
    assert {name: table.num_rows for name, table in tables.qrels.items()} == {
        "train": 70,
        "dev": 10,
        "test": 20,
    }
    assert "toy" not in sys.modules
    queries = dict(zip(tables.queries["_id"].to_pylist(), tables.queries["text"].to_pylist(), strict=True))
    assert queries["q:toy.apple:peel_apple"] == "How to peel one apple with applepeel care."


def test_tests_vendored_broken_and_repeated_code_stay_out(packages: Path) -> None:
    tables = pycode_tables(SETTINGS)
    modules = set(tables.corpus["group"].to_pylist())
    assert not {m for m in modules if "test" in m or "vendor" in m or "broken" in m}
    assert len(modules & {"toy.apple", "toy.zcopy"}) >= 1
    assert tables.report["files_unparsable"] == 1
    assert tables.report["dropped_repeated_code"] == 1


def test_the_passage_is_the_real_source_without_the_docstring(packages: Path) -> None:
    tables = pycode_tables(SETTINGS)
    for text in tables.corpus["text"].to_pylist():
        assert "How to" not in text and '"""' not in text
        assert ast.get_docstring(ast.parse(text).body[0]) is None


def test_neighbours_follow_each_other_in_the_table(packages: Path) -> None:
    rows = pycode_tables(SETTINGS).corpus.to_pylist()
    assert [(r["group"], r["position"]) for r in rows] == sorted((r["group"], r["position"]) for r in rows)
    assert [r["_id"].split("_")[0] for r in rows if r["group"] == "toy.bridge"] == [
        f"toy.bridge:{v}" for v in VERBS
    ]


def test_building_is_deterministic_and_independent_of_workers(packages: Path) -> None:
    first, second = pycode_tables(SETTINGS), pycode_tables(SETTINGS, workers=2)
    assert first.corpus.equals(second.corpus) and first.queries.equals(second.queries)
    assert first.report == second.report
    assert all(first.qrels[split].equals(second.qrels[split]) for split in first.qrels)


def test_whole_modules_are_kept_up_to_the_limit(packages: Path) -> None:
    seen: list[tuple[int, int]] = []
    settings = SETTINGS.model_copy(update={"max_functions": 45})
    tables = pycode_tables(settings, progress=lambda *counts: seen.append(counts))
    sizes = [tables.corpus["group"].to_pylist().count(m) for m in set(tables.corpus["group"].to_pylist())]
    assert sum(sizes) <= 45 and sizes.count(10) >= 3
    assert seen[-1] == (45, 45)


def test_another_seed_gives_other_splits(packages: Path) -> None:
    other = pycode_tables(SETTINGS.model_copy(update={"seed": 1}))
    assert not pycode_tables(SETTINGS).qrels["test"].equals(other.qrels["test"])


def test_too_few_functions_and_missing_packages_are_named(packages: Path) -> None:
    with pytest.raises(DataError, match="100 functions are too few for 600"):
        pycode_tables(SETTINGS.model_copy(update={"test_queries": 590}))
    with pytest.raises(DataError, match="'no-such-package' is not installed"):
        pycode_fingerprint(PycodeSettings(packages=("no-such-package",)))
    with pytest.raises(ValidationError):
        PycodeSettings(max_function=3)  # type: ignore[call-arg]


def test_the_fingerprint_follows_versions_and_settings(packages: Path, tmp_path: Path) -> None:
    first = pycode_fingerprint(SETTINGS)
    assert first == pycode_fingerprint(SETTINGS)
    assert first != pycode_fingerprint(SETTINGS.model_copy(update={"seed": 1}))
    (packages / "toy-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: toy\nVersion: 1.1\n"
    )
    assert first != pycode_fingerprint(SETTINGS)


def test_the_registry_builds_a_collection_by_name(packages: Path) -> None:
    collection = build_collection("pycode", SETTINGS)
    assert collection.name in BUILT_IN and len(collection.passages) == 100
    ids, texts = collection.split_queries("test")
    assert len(ids) == len(texts) == 20
    assert len(collection_fingerprint("pycode", SETTINGS)) == 64
    with pytest.raises(ConfigError, match="'pycoed'"):
        build_collection("pycoed", SETTINGS)


@pytest.mark.parametrize(
    ("docstring", "summary"),
    [
        ("Return the mean.\n\nMore words.", "Return the mean."),
        ("Return the\n    mean of it. And more.", "Return the mean of it."),
        ("Use e.g. Newton's method here. More.", "Use e.g. Newton's method here."),
        ("Give a :class:`~a.Frame` of ``x``.", "Give a a.Frame of x."),
        ("Save it\nArgs:\n  x: what", "Save it"),
        ("Deprecated since 1.2, use that.", ""),
        (".. deprecated:: 1.2", ""),
        ("Parameters\n----------\nx", ""),
        ("Naïve estimate of the mean.", ""),
        ("=== 1 + 2 * 3 ===", ""),
    ],
)
def test_the_summary_is_the_first_useful_sentence(docstring: str, summary: str) -> None:
    assert summary_of(docstring) == summary


def test_parsing_handles_methods_decorators_overloads_and_stubs(tmp_path: Path) -> None:
    path = tmp_path / "m.py"
    path.write_bytes(
        b"class A:\n    @property\n    def x(self):\n        '''Return the x value.'''\n"
        b"        s = '''\nleft\n'''\n\x0c"
        b"        return s\r\n"
        b"    @x.setter\n    def x(self, v):\n        '''Set the x value.'''\n        self.v = v\n"
        b"    def stub(self):\n        '''Say what a stub is.'''\n        raise NotImplementedError('no')\n"
        b"    def one(self): '''Share one line only.'''; return 1\n"
        b"    async def two(self):\n        '''Wait for the two.'''\n"
        b"        def inner():\n            '''Hidden inner one.'''\n"
        b"        return inner\n"
    )
    found = parse_module(path, "p/m.py")
    assert found is not None
    assert [(f.name, f.position, f.summary) for f in found] == [
        ("A.x", 0, "Return the x value."),
        ("A.two", 1, "Wait for the two."),
    ]
    assert found[0].source.startswith("@property\ndef x(self):\n    s = '''\nleft\n'''")
    assert found[1].source.startswith("async def two(self):\n    def inner():")
    assert parse_module(tmp_path / "absent.py", "absent.py") is None


def test_text_is_free_of_control_characters() -> None:
    cleaned = clean_text("a\r\nb\rc\fd\x00e\x7ff\x85g\ud800h\ti")
    assert cleaned == "a\nb\nc defgh\ti"
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", cleaned)


def test_module_names() -> None:
    assert module_name("a/b/__init__.py") == "a.b"
    assert module_name("a/b.py") == "a.b"


def test_near_duplicates_agree_with_a_slow_oracle() -> None:
    base = [f"w{i}" for i in range(40)]
    texts = [
        shingles([f"{n}" if k % 9 == n % 9 and n > 3 else w for k, w in enumerate(base)], 1)
        for n in range(12)
    ]
    texts += [shingles(base[:38], 1), shingles(["other"], 3)]
    kept: list[frozenset[int]] = []
    expected = []
    for text in texts:
        repeats = any(len(text & other) / len(text | other) >= 0.75 for other in kept)
        expected.append(repeats)
        if not repeats:
            kept.append(text)
    seen = SeenTexts(0.75)
    assert [*seen.repeats(texts[:7]), *seen.repeats(texts[7:])] == expected
    assert not seen.repeats([]).size
