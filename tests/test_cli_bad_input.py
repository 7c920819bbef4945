"""Bad input to ``llara``: one clear message on stderr, the right exit code, nothing half-written."""

from __future__ import annotations

import ast
import importlib.util
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llara_core.cli.app import run
from llara_core.cli.options import RUN_KEYS
from llara_core.training.sealing import fault

REPOSITORY = Path(__file__).resolve().parent.parent


def put(name, text):
    """Append a line to a file of the collection."""

    def spoil(folder):
        with (folder / name).open("a") as stream:
            stream.write(text + "\n")

    return spoil


def only(name, text):
    return lambda folder: (folder / name).write_text(text)


def without(name):
    return lambda folder: (folder / name).unlink()


TEST, HEADER = "qrels/test.tsv", "query-id\tcorpus-id\tscore\n"
BAD_DATA = {
    "missing folder": (shutil.rmtree, "tiny: no such folder"),
    "missing corpus": (without("corpus.jsonl"), "corpus.jsonl: missing file"),
    "missing queries": (without("queries.jsonl"), "queries.jsonl: missing file"),
    "missing qrels": (lambda folder: shutil.rmtree(folder / "qrels"), "qrels: no relevance judgements"),
    "malformed JSON": (put("corpus.jsonl", '{"_id": "x", "text"'), "corpus.jsonl:25: malformed JSON"),
    "malformed query": (put("queries.jsonl", "[1]"), "queries.jsonl:17: expected a JSON object, got list"),
    "duplicate id": (
        put("corpus.jsonl", '{"_id": "loom-0", "text": "t"}'),
        "corpus.jsonl:25: '_id' 'loom-0' stands",
    ),
    "empty id": (put("corpus.jsonl", '{"_id": "", "text": "t"}'), "corpus.jsonl:25: empty '_id'"),
    "duplicate query": (put("queries.jsonl", '{"_id": "test-loom", "text": "t"}'), "queries.jsonl:17: '_id'"),
    "unknown document": (
        put(TEST, "test-loom\tnone\t1"),
        "test.tsv:18: corpus-id 'none' is not in",
    ),
    "unknown query": (put(TEST, "nobody\tloom-0\t1"), "test.tsv:18: query-id 'nobody' is not in"),
    "bad grade": (put(TEST, "test-loom\tloom-0\tgood"), "test.tsv:18: expected a whole number"),
    "empty corpus": (only("corpus.jsonl", ""), "corpus.jsonl: the corpus is empty"),
    "no judgements": (only("qrels/test.tsv", HEADER), "test.tsv: split 'test' has no query"),
    "no test split": (without("qrels/test.tsv"), "no split 'test'"),
    "empty queries": (only("queries.jsonl", ""), "is not in the queries file"),
    "not text": (
        lambda folder: (folder / "queries.jsonl").write_bytes(b"\xff\xfe"),
        "queries.jsonl:1: not valid UTF-8",
    ),
}


def fails_cleanly(capsys, command, said, exit_code=2):
    """Run a command that must fail with one message, on stderr, and no traceback."""
    capsys.readouterr()
    assert run(command) == exit_code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    messages = [line for line in captured.err.splitlines() if line.startswith("llara: ")]
    assert len(messages) == 1, captured.err
    assert said in messages[0]
    return messages[0]


@pytest.mark.parametrize("case", BAD_DATA)
def test_bad_data(beir_folder, tmp_path, capsys, case):
    spoil, said = BAD_DATA[case]
    spoil(beir_folder)
    output = tmp_path / "scores.json"
    fails_cleanly(
        capsys, ["evaluate", "--model", "bm25", "--data", str(beir_folder), "-o", str(output)], said
    )
    assert not output.exists()


BAD_SETTINGS = {
    "unknown key": (
        "parameters: {adapt: {stepz: 3}}",
        [],
        "adapt.stepz: unknown setting; did you mean 'steps'?",
    ),
    "unknown section": ("parameters: {adpt: {}}", [], "did you mean 'adapt'?"),
    "unknown top key": ("paramters: {}", [], "did you mean 'parameters'?"),
    "forgotten parameters": (
        "adapt: {steps: 3}",
        [],
        "settings stand under `parameters:`",
    ),
    "mistyped value": ("parameters: {adapt: {steps: many}}", [], "parameters.adapt.steps: got 'many'"),
    "no mapping": ("parameters: [1]", [], "parameters: expected a mapping"),
    "not YAML": ("a: [", [], "not valid YAML"),
    "unknown override": (
        "",
        ["--set", "adapt.stepz=3"],
        "adapt.stepz: unknown setting; did you mean 'steps'?",
    ),
    "mistyped override": ("", ["--set", "adapt.steps=many"], "adapt.steps: got 'many'"),
    "override without value": ("", ["--set", "adapt.steps"], "--set adapt.steps: expected KEY=VALUE"),
    "override not YAML": ("", ["--set", "model.base=["], "is not a YAML value"),
}


@pytest.mark.parametrize("case", BAD_SETTINGS)
def test_bad_settings(beir_folder, tmp_path, capsys, case):
    content, more, said = BAD_SETTINGS[case]
    config = tmp_path / "c.yaml"
    config.write_text(content or "parameters: {}")
    output = tmp_path / "out"
    command = ["adapt", "--data", str(beir_folder), "-c", str(config), "-o", str(output), *more]
    fails_cleanly(capsys, command, said)
    assert not output.exists()


def test_known_keys_are_those_of_zenml():
    """Read from the source: importing ZenML takes seconds, and it may not be installed."""
    spec = importlib.util.find_spec("zenml")
    if spec is None or spec.origin is None:
        pytest.skip("needs the pipeline extra")
    source = Path(spec.origin).parent / "config" / "pipeline_run_configuration.py"
    tree = ast.parse(source.read_text(encoding="utf-8"))
    classes = [one for one in tree.body if isinstance(one, ast.ClassDef)]
    body = next(one.body for one in classes if one.name == "PipelineRunConfiguration")
    found = {one.target.id for one in body if isinstance(one, ast.AnnAssign)}
    assert found - {"model_config"} == RUN_KEYS


def test_missing_config(beir_folder, tmp_path, capsys):
    command = ["evaluate", "--model", "bm25", "--data", str(beir_folder), "-c", f"{tmp_path}/none.yaml"]
    fails_cleanly(capsys, command, "none.yaml: no such configuration file")


def encoder_only(folder):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", "architectures": ["BertModel"]}))
    return folder


BAD_MODELS = {
    "missing": lambda folder: folder,
    "empty": lambda folder: folder.mkdir() or folder,
    "encoder": encoder_only,
}


@pytest.mark.parametrize("kind", BAD_MODELS)
@pytest.mark.parametrize("command", ["prepare", "adapt", "finetune", "mine", "evaluate", "encode", "search"])
def test_model_folder_without_a_decoder(beir_folder, tmp_path, capsys, command, kind):
    model = BAD_MODELS[kind](tmp_path / "model")
    words = [command, "--model", str(model), "--data", str(beir_folder)]
    if command == "search":
        words.append("lava")
    elif command == "mine":
        words += ["-o", f"{tmp_path}/out.jsonl"]
    elif command != "evaluate":
        words += ["-o", f"{tmp_path}/out"]
    if command == "finetune":
        words += ["--set", "finetune.hard_negatives=0"]
    before = sorted(tmp_path.iterdir())
    message = fails_cleanly(capsys, words, str(model))
    assert len(message) < 600
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    "words",
    [
        ["prepare", "-o", "{out}"],
        ["adapt", "-o", "{out}"],
        ["finetune", "-o", "{out}", "--set", "finetune.hard_negatives=0"],
        ["mine", "--model", "{work}/adapted", "-o", "{out}.jsonl"],
        ["encode", "--model", "{work}/adapted", "-o", "{out}"],
        ["evaluate", "--model", "bm25", "-o", "{out}"],
        ["collection", "pycode", "{out}"],
    ],
    ids=lambda words: words[0],
)
@pytest.mark.parametrize("place", ["file", "proc"])
def test_unwritable_output(work, tmp_path, capsys, words, place):
    # Nothing can be made under a regular file or in /proc, whoever asks; permission bits do not bind root.
    (tmp_path / "file").write_text("")
    if place == "proc" and not Path("/proc/self").is_dir():
        pytest.skip("this system has no /proc")
    out = tmp_path / "file" / "out" if place == "file" else Path("/proc/llara/out")
    command = [word.format(out=out, work=work) for word in words]
    if words[0] != "collection":
        command += ["--data", f"{work}/tiny"]
    fails_cleanly(capsys, command, "cannot write here")


def test_folder_that_is_not_ours_is_kept(work, tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("precious")
    for command in (
        ["encode", "--model", f"{work}/base", "--data", f"{work}/tiny", "-o", str(tmp_path)],
        ["evaluate", "--model", "bm25", "--data", f"{work}/tiny", "-o", str(tmp_path)],
    ):
        fails_cleanly(capsys, command, str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_bad_negatives(work, tmp_path, capsys):
    finetune = ["finetune", "--data", f"{work}/tiny", "--model", f"{work}/adapted", "-o", f"{tmp_path}/out"]
    fails_cleanly(capsys, finetune, "--negatives is missing")
    fails_cleanly(capsys, [*finetune, "--negatives", f"{tmp_path}/none.jsonl"], "no such file")
    fails_cleanly(capsys, [*finetune, "--negatives", f"{tmp_path}/none.txt"], "expected a name that ends in")
    (tmp_path / "bad.jsonl").write_text('{"query_id": 3')
    fails_cleanly(capsys, [*finetune, "--negatives", f"{tmp_path}/bad.jsonl"], "not a file of negatives")
    (tmp_path / "bad.arrow").write_text("not arrow")
    fails_cleanly(capsys, [*finetune, "--negatives", f"{tmp_path}/bad.arrow"], "not a file of negatives")


def test_empty_query(work, capsys):
    fails_cleanly(capsys, ["search", "--model", "bm25", "--data", f"{work}/tiny", " "], "query is empty")


@pytest.mark.parametrize(
    "words",
    [
        ["evaluat"],
        ["evaluate", "--modle", "bm25"],
        ["evaluate"],
        ["search", "--model", "bm25"],
        ["search", "--model", "bm25", "--top", "0", "q"],
        ["search", "--model", "bm25", "--top", "ten", "q"],
        ["adapt", "--seed", "-1", "-o", "x"],
    ],
)
def test_wrong_usage_exits_2_and_names_the_way_out(capsys, words):
    assert run(words) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and "Usage: llara" in captured.err and "Error: " in captured.err
    assert "Traceback" not in captured.err


def test_debug_shows_the_traceback_wherever_it_stands(beir_folder, capsys):
    command = ["evaluate", "--model", "bm25", "--data", str(beir_folder / "none")]
    for words in (["--debug", *command], [*command, "--debug"]):
        assert run(words) == 2
        captured = capsys.readouterr()
        assert "Traceback" in captured.err and "DataError" in captured.err


def test_unexpected_error_is_one_line_with_a_hint(beir_folder, capsys, monkeypatch):
    def broken(*_arguments, **_options):
        raise RuntimeError("disk on fire")

    monkeypatch.setattr("llara_core.evaluation.beir.evaluate_system", broken)
    command = ["evaluate", "--model", "bm25", "--data", str(beir_folder)]
    message = fails_cleanly(capsys, command, "RuntimeError: disk on fire", exit_code=1)
    assert message.endswith("run again with --debug for the traceback")


@pytest.mark.parametrize(("every", "left"), [("null", []), ("1", ["out.checkpoints"])])
def test_interrupt_leaves_nothing_half_written(work, tmp_path, every, left):
    """A real Ctrl-C in the middle of training: at most whole checkpoints stay, for the next run to go on."""
    often = "import llara_core.progress as p, llara_core.cli as c; p.PLAIN_INTERVAL = 0.1; "
    # a shell that starts its children by "&" has them ignore SIGINT
    often += "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); c.main()"
    command = [sys.executable, "-c", often, "adapt", "--data", f"{work}/tiny", "-c", f"{work}/c.yaml"]
    command += ["--base", f"{work}/base", "-o", f"{tmp_path}/out", "--set", "adapt.steps=20000"]
    command += ["--set", f"adapt.checkpoint_every={every}"]
    with subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True) as process:
        try:
            lines = []
            for line in process.stderr:  # a progress line: training is under way
                lines.append(line)
                if line.startswith("adapt: "):
                    break
            assert lines and lines[-1].startswith("adapt: "), lines
            time.sleep(0.5)
            process.send_signal(signal.SIGINT)
            rest = process.stderr.read()
            assert process.wait(timeout=60) == 1
        finally:
            process.kill()
    assert "llara: interrupted" in rest and "Traceback" not in rest
    assert [path.name for path in tmp_path.iterdir()] == left
    for step in tmp_path.glob("out.checkpoints/run-*/step-*"):
        # One whose removal was interrupted is told by its name: no run takes it, and the next clears it away.
        assert step.suffix == ".old" or fault(step) is None, step
