"""docker/Dockerfile, read as Docker does: all it copies exists, all it installs is pinned, nobody is root."""

from __future__ import annotations

import fnmatch
import re
import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

REPOSITORY = Path(__file__).resolve().parents[2]
DOCKERFILE = REPOSITORY / "docker" / "Dockerfile"
TARGETS = ("cpu", "cuda")
# Set by Docker, or by the image that a stage starts from.
GIVEN = {"PATH"}


@dataclass
class Stage:
    """One stage: what it starts from, and its instructions in their order."""

    name: str
    start: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def all(self, word: str) -> list[str]:
        return [rest for one, rest in self.instructions if one == word]


def parse(text: str) -> tuple[dict[str, str], list[Stage]]:
    """The arguments before the first stage, and the stages. Lines that end with a backslash go on."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    arguments: dict[str, str] = {}
    stages: list[Stage] = []
    for line in joined.splitlines():
        word, _, rest = line.strip().partition(" ")
        word, rest = word.upper(), rest.strip()
        if word == "FROM":
            start, name = re.fullmatch(r"(\S+) +[Aa][Ss] +(\S+)", rest).groups()  # type: ignore[union-attr]
            stages.append(Stage(name, start))
        elif not stages:
            assert word == "ARG"
            name, _, value = rest.partition("=")
            arguments[name] = value
        else:
            stages[-1].instructions.append((word, rest))
    return arguments, stages


ARGUMENTS, STAGES = parse(DOCKERFILE.read_text(encoding="utf-8"))
BY_NAME = {stage.name: stage for stage in STAGES}


def lineage(stage: Stage) -> list[Stage]:
    """The stage and those it starts from, the first of them first."""
    return [*(lineage(BY_NAME[stage.start]) if stage.start in BY_NAME else []), stage]


def copies(stage: Stage) -> list[tuple[str | None, list[str]]]:
    """Every COPY: the stage it takes from, and the paths."""
    found = []
    for rest in stage.all("COPY"):
        words = shlex.split(rest)
        options = dict(word[2:].split("=", 1) for word in words if word.startswith("--"))
        found.append((options.get("from"), [word for word in words if not word.startswith("--")][:-1]))
    return found


def ignored(path: str) -> bool:
    """Whether .dockerignore keeps a path of the root out: the last line that matches decides."""
    out = False
    for line in (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").splitlines():
        pattern = line.strip()
        if pattern and not pattern.startswith("#"):
            first = path.split("/", maxsplit=1)[0]
            if fnmatch.fnmatch(first, pattern.lstrip("!")) or fnmatch.fnmatch(path, pattern.lstrip("!")):
                out = not pattern.startswith("!")
    return out


def test_the_targets_are_there() -> None:
    assert set(TARGETS) <= BY_NAME.keys()
    assert len(BY_NAME) == len(STAGES), "two stages have one name"


def test_every_copied_file_exists_and_is_let_in() -> None:
    sources = [path for stage in STAGES for start, paths in copies(stage) if start is None for path in paths]
    assert len(sources) > 8
    for path in sources:
        assert (REPOSITORY / path).exists(), path
        assert not ignored(path), f".dockerignore keeps out {path}"
    assert all(ignored(path) for path in (".git", ".local", ".venv", "deploy/kubernetes.env", "tests"))


def test_every_package_of_ours_is_in_the_image() -> None:
    told = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    copied = {path for _, paths in copies(BY_NAME["code"]) for path in paths}
    assert set(told["tool"]["importlinter"]["root_packages"]) <= copied


def test_every_stage_that_is_named_stands_before() -> None:
    seen: list[str] = []
    for stage in STAGES:
        for start, _ in copies(stage):
            assert start is None or start in seen, f"{stage.name}: --from={start}"
        seen.append(stage.name)
        if stage.start not in seen:  # then it is an image
            assert "/" in stage.start or ":" in stage.start, stage.start


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_images_are_pinned(stage: Stage) -> None:
    if stage.start in BY_NAME:
        return
    image, _, tag = re.sub(r"\$\{(\w+)\}", lambda found: ARGUMENTS[found[1]], stage.start).partition(":")
    assert image
    assert re.match(r"\d+\.\d+\.\d+", tag), f"{stage.start}: a version of three parts, not {tag!r}"


def test_variables_are_defined_before_they_are_used() -> None:
    for stage in STAGES:
        known = set(GIVEN)
        for part in lineage(stage):
            for word, rest in part.instructions:
                text = re.sub(r"'[^']*'", "", rest)
                for name in re.findall(r"\$\{?(\w+)", text):
                    assert name in known, f"{part.name}: {word} uses {name}"
                if word == "ENV":
                    known |= {pair.partition("=")[0] for pair in shlex.split(rest)}
                elif word == "ARG":
                    known.add(rest.partition("=")[0])
                elif word == "RUN":
                    known |= set(re.findall(r"(?:^| )([A-Z_]+)=", rest))


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_ends_as_a_user_with_a_number(target: str) -> None:
    stage = BY_NAME[target]
    user, _, group = stage.all("USER")[-1].partition(":")
    assert int(user) > 0
    assert int(group) > 0
    last = max(
        number for number, (word, _) in enumerate(stage.instructions) if word in ("RUN", "COPY", "ADD")
    )
    assert [word for word, _ in stage.instructions].index("USER") > last, (
        "what is written is root's, read-only"
    )
    profile = (REPOSITORY / "configs" / "kubernetes" / "gpu-1.yaml").read_text(encoding="utf-8")
    assert f"runAsUser: {user}" in profile
    assert f"runAsGroup: {group}" in profile
    home = {pair for part in lineage(stage) for rest in part.all("ENV") for pair in shlex.split(rest)}
    assert "HOME=/home/llara" in home
    assert {"org.opencontainers.image.version", "org.opencontainers.image.licenses"} <= {
        pair.partition("=")[0]
        for part in lineage(stage)
        for rest in part.all("LABEL")
        for pair in shlex.split(rest)
    }


def test_every_version_is_that_of_the_constraints() -> None:
    pinned = dict(
        line.partition(";")[0].strip().split("==")
        for line in (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    )
    for stage in STAGES:
        for rest in stage.all("RUN"):
            if "pip install" in rest:
                assert "-c constraints.txt" in rest
                assert "--no-cache-dir" not in rest  # the cache is a mount, so that the image has none
                assert "--mount=type=cache" in rest
            for name, version in re.findall(r"([A-Za-z0-9_.-]+)==([0-9][^\s'\"]*)", rest):
                assert pinned[name.lower()] == version
    major = ".".join(ARGUMENTS["PYTHON_VERSION"].split(".")[:2])
    required = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    assert required["tool"]["mypy"]["python_version"] == major


def test_every_extra_exists_and_the_builds_of_faiss_are_kept_apart() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    chosen = {}
    for target in TARGETS:
        [rest] = [rest for rest in BY_NAME[f"installed-{target}"].all("RUN") if "pip install" in rest]
        chosen[target] = set(re.search(r"\.\[([a-z0-9,]+)\]", rest)[1].split(","))  # type: ignore[index]
        assert chosen[target] <= project["optional-dependencies"].keys()
    assert chosen["cuda"] ^ chosen["cpu"] == {"gpu", "cpu"}
    assert "pipeline" in chosen["cpu"]
    assert "dev" not in chosen["cpu"]


def test_no_secret_is_built_in() -> None:
    text = DOCKERFILE.read_text(encoding="utf-8")
    for stage in STAGES:
        assert not stage.all("ADD"), "COPY says what it does"
        for word in ("ARG", "ENV"):
            for rest in stage.all(word):
                assert not re.search(r"TOKEN(?!IZERS)|PASSWORD|SECRET|API_?KEY", rest, re.IGNORECASE), rest
    assert "--mount=type=secret" not in text


@pytest.mark.parametrize(
    ("old", "new", "test"),
    [
        ("COPY steps steps", "COPY stepz stepz", test_every_copied_file_exists_and_is_let_in),
        ("--from=installed-cpu", "--from=installed", test_every_stage_that_is_named_stands_before),
        ('"$TORCH_INDEX"', '"$TORCH_INDXE"', test_variables_are_defined_before_they_are_used),
        ("-e '.[gpu,", "zenml==0.97.0 -e '.[gpu,", test_every_version_is_that_of_the_constraints),
        ("-c constraints.txt -e '.[gpu,", "-e '.[gpu,", test_every_version_is_that_of_the_constraints),
        ("-e '.[gpu,", "-e '.[cpu,", test_every_extra_exists_and_the_builds_of_faiss_are_kept_apart),
        ("ARG REVISION=unknown", "ARG API_KEY=1", test_no_secret_is_built_in),
    ],
)
def test_the_tests_can_fail(monkeypatch: pytest.MonkeyPatch, old: str, new: str, test) -> None:  # type: ignore[no-untyped-def]
    text = DOCKERFILE.read_text(encoding="utf-8")
    assert old in text
    _, stages = parse(text.replace(old, new))
    monkeypatch.setattr(sys.modules[__name__], "STAGES", stages)
    monkeypatch.setattr(sys.modules[__name__], "BY_NAME", {stage.name: stage for stage in stages})
    with pytest.raises((AssertionError, KeyError)):
        test()
