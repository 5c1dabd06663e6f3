"""The Dockerfile as benchmarks/bare_machine.py parses it. Running the script, which needs a network, tests its steps."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    monkeypatch.delitem(sys.modules, "bare_machine", raising=False)
    import bare_machine

    return bare_machine


def test_lines_are_joined_and_comments_left_out_as_docker_does(script: ModuleType) -> None:
    steps = script.parse('# a comment\nFROM debian:bookworm-slim\n\nRUN a \\\n# within\n && b\nENV A=1 B="two words"\n')
    assert [(s.name, " ".join(s.value.split())) for s in steps] == [
        ("FROM", "debian:bookworm-slim"),
        ("RUN", "a && b"),
        ("ENV", 'A=1 B="two words"'),
    ]
    assert script.assignments(steps[2].value) == {"A": "1", "B": "two words"}


def test_an_instruction_it_cannot_follow_is_refused(script: ModuleType) -> None:
    with pytest.raises(script.Failure, match="ADD"):
        script.parse("FROM debian:bookworm-slim\nADD archive.tar /\n")


def test_what_a_dockerfile_step_changes(script: ModuleType, tmp_path: Path) -> None:
    context, root = tmp_path / "context", tmp_path / "root"
    (context / "package").mkdir(parents=True)
    (context / "package" / "module.py").touch()
    (context / "README.md").touch()
    machine = script.Machine(root, script.Host({}, frozenset(), None), {"EXTRAS": "mario"})
    text = 'ARG EXTRAS=atari\nENV PATH="/venv/bin:$PATH"\nWORKDIR /a\nWORKDIR b\nCOPY README.md ./\nCOPY package package\n'
    for step in script.parse(text):
        assert machine.follow(step, context) == 0
    assert machine.arguments == {"EXTRAS": "mario"}
    assert machine.variables["PATH"] == f"/venv/bin:{script.SEARCH_PATH}"
    assert (root / "a/b/README.md").is_file()
    assert (root / "a/b/package/module.py").is_file()


def test_the_dockerfile(script: ModuleType) -> None:
    steps = script.parse((ROOT / "Dockerfile").read_text())
    arguments = {name: value for s in steps if s.name == "ARG" for name, value in script.assignments(s.value).items()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = set(arguments["EXTRAS"].split(","))
    assert extras <= project["optional-dependencies"].keys()
    assert "mario" not in extras  # not free software
    assert arguments["DEVICE"] == "cpu"

    names = [s.name for s in steps]
    user = next(s.value for s in reversed(steps) if s.name == "USER")
    assert user not in ("root", "0")
    assert names.index("ENTRYPOINT") > names.index("USER") > max(i for i, name in enumerate(names) if name == "RUN")

    sources = {word for s in steps if s.name == "COPY" for word in s.value.split()[:-1]}
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert sources == kept
    assert all((ROOT / source).exists() for source in sources)


def test_the_bare_machine_installs_what_the_readme_asks_for(script: ModuleType) -> None:
    packages = script.README_PACKAGES.split("--no-install-recommends ")[1]
    assert f"`apt-get install {packages}`" in (ROOT / "README.md").read_text()
