"""Every code block of the documentation runs, is output, or says why it does not run.

- A block has a language; `text` is output or a drawing.
- `python` blocks of a page run one after another, as in a notebook; `bash` blocks line by line. A block with a title is the
  file of that name. Runs are short, and one in `runs/a3c-CartPole-v1-…` is already there.
- `<!-- not run: REASON -->` above a block says why it does not run.
"""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from glob import glob
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import asyncrl
from asyncrl.algorithms import ALGORITHMS
from asyncrl.cli import main

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
TESTED_ELSEWHERE = {"add-a-network.md", "add-an-algorithm.md", "add-an-environment-family.md"}
"""Pages whose blocks test_pages.py runs."""
LANGUAGES = {"python", "bash", "text", "toml", "json", "docker"}
BLOCK = re.compile(
    r"""(?:^[ ]*<!--\ not\ run:\ (?P<reason>.+?)\ -->\n+)?
        ^(?P<indent>[ ]*)```(?P<language>\w*)(?:[ ]title="(?P<title>[^"]+)")?(?P<rest>[^\n]*)\n
        (?P<text>.*?)
        ^(?P=indent)```[ ]*$""",
    re.M | re.S | re.X,
)
REPLAY = {name for name, cls in ALGORITHMS.items() if "replay" in cls.__dataclass_fields__}
BRIEF: dict[str, Any] = dict(steps=256, actors=1, envs_per_actor=4, engine="serial", eval_episodes=1)


class Block(NamedTuple):
    reason: str | None
    language: str
    title: str | None
    text: str


def blocks_of(page: Path) -> list[Block]:
    found = []
    for match in BLOCK.finditer(page.read_text(encoding="utf-8")):
        indent = match["indent"]
        text = "\n".join(line.removeprefix(indent) for line in match["text"].splitlines())
        found.append(Block(match["reason"], match["language"], match["title"], text))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_has_a_language(page: Path) -> None:
    assert {block.language for block in blocks_of(page)} <= LANGUAGES


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a short run, `runs/a3c-CartPole-v1-…`."""
    folder = tmp_path_factory.mktemp("trained")
    asyncrl.train("CartPole-v1", "a3c", run_dir=folder / "runs" / "a3c-CartPole-v1-…", **BRIEF)
    return folder


RUNNABLE = [
    page
    for page in PAGES
    if page.name not in TESTED_ELSEWHERE
    and any(block.language in ("python", "bash") and not block.reason for block in blocks_of(page))
]


@pytest.mark.parametrize("page", RUNNABLE, ids=lambda page: page.stem)
def test_the_blocks_of_a_page_run(
    page: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    modules = set(sys.modules)
    scope: dict[str, Any] = {"asyncrl": asyncrl, "train_briefly": train_briefly}
    blocks = [block for block in blocks_of(page) if not block.reason]
    for block in blocks:
        if block.title:
            Path(block.title).write_text(block.text, encoding="utf-8")
    try:
        for block in blocks:
            if block.language == "python" and not block.title:
                exec(compile(briefly(block.text), str(page), "exec"), scope)
            elif block.language == "bash":
                for line in block.text.replace("\\\n", " ").splitlines():
                    run_line(line)
    finally:
        for name in set(sys.modules) - modules:
            if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(sys.modules[name].__file__):
                del sys.modules[name]


def briefly(code: str) -> str:
    """A program whose runs and evaluations are short."""
    return re.sub(r"episodes=[\d_]+", "episodes=1", code.replace("asyncrl.train(", "train_briefly("))


def train_briefly(*arguments: Any, **settings: Any) -> Any:
    """`asyncrl.train` for a few steps."""
    defaults = {} if {"preset", "config"} & settings.keys() else BRIEF
    return asyncrl.train(*arguments, **(defaults | settings | {"steps": BRIEF["steps"]}))


def run_line(line: str) -> None:
    """Run a command of a page, with fewer steps and episodes."""
    typed, _, target = line.partition(" > ")
    command = shlex.split(typed, comments=True)
    if not command:
        return
    assert command[0] == "asyncrl", f"{line}: mark the block with <!-- not run: REASON -->"
    words = [path for word in command[1:] for path in (sorted(glob(word)) if "*" in word else [word])]
    assert main(shortened(words)) == 0, line
    if target:
        Path(target.split("#")[0].strip()).touch()


def shortened(command: list[str]) -> list[str]:
    """The words of a command after `asyncrl`, with fewer steps and episodes."""
    name, *words = command
    if {"--help", "--help-all", "--print-config"} & {*words}:
        return command
    if name in ("evaluate", "record"):
        return [name, *replaced(words, "--episodes", "1")]
    if name == "train" and "--resume" in words:
        return [name, *replaced(words, "--steps", str(2 * BRIEF["steps"])), "--quiet", "--no-video"]
    if name == "train":
        words = replaced(words, "--steps", str(BRIEF["steps"]))
        envs = 2 if words[1].startswith("ALE/") else 4  # emulators take long to start
        options = {"actors": 1, "envs-per-actor": envs, "engine": "serial", "eval-episodes": 0}
        if words[0] in REPLAY:
            options |= {"capacity": 1_000, "learning-starts": 224, "batch-size": 8}
        for option, value in options.items():
            if f"--{option}" not in words:
                words += [f"--{option}", str(value)]
        if "--run-dir" not in words:
            folder = Path("runs") / "-".join([*re.split("[/:]", f"{words[0]}-{words[1]}"), "…"])
            shutil.rmtree(folder, ignore_errors=True)
            words += ["--run-dir", str(folder)]
        return [name, *words, "--quiet", "--no-video"]
    return command


def replaced(words: list[str], option: str, value: str) -> list[str]:
    """`words` with another value of an option."""
    if option in words:
        place = words.index(option)
        words = words[:place] + words[place + 2 :]
    return [*words, option, value]
