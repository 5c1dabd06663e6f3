"""Links, anchors and names of functions in the documentation exist; code on its pages runs."""

from __future__ import annotations

import ast
import importlib
import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

import asyncrl
import asyncrl.envs.contract_checks
import asyncrl.envs.registry
import asyncrl.presets
from asyncrl.algorithms import ALGORITHMS
from asyncrl.api import configure
from asyncrl.cli import main
from asyncrl.launch import start
from asyncrl.runs.lookup import open_run

ROOT = Path(__file__).parents[2]
PAGES = [
    *ROOT.glob("*.md"),
    *(ROOT / "docs").rglob("*.md"),
    *(ROOT / "benchmarks").glob("*.md"),
    *ROOT.glob(".github/*.md"),
]
NAMED = re.compile(r"\[`[\w/]+\.py`\]\(([\w./]+)\)[ |]*\s*`([\w.]+)`")


def blocks(page: str, language: str) -> list[str]:
    return re.findall(
        rf"```{language}(?: title=[^\n]*)?\n(.*?)```", (ROOT / "docs" / page).read_text(encoding="utf-8"), re.S
    )


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    titles = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def names_in(path: Path) -> set[str]:
    """Functions, classes and methods of a module, as `f`, `C` and `C.f`."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{child.name}" for child in node.body if isinstance(child, ast.FunctionDef)}
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file_and_every_anchor_to_a_heading(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_functions_on_the_way_of_a_rollout_exist() -> None:
    page = ROOT / "docs" / "a-rollout.md"
    named = NAMED.findall(page.read_text(encoding="utf-8"))
    assert len(named) > 20
    for link, name in named:
        assert name in names_in(page.parent / link), f"{link} has no {name}"


def weights_of(run: Any) -> str:
    return str(json.loads((run.marked("latest") / "manifest.json").read_text())["weights_sha256"])


SHORT = ["--steps", "640", "--actors", "2", "--envs-per-actor", "4", "--eval-episodes", "1", "--no-video", "--quiet"]


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder, outside the package, with the modules of the guides."""
    (tmp_path / "my_pqn.py").write_text(blocks("add-an-algorithm.md", "python")[0], encoding="utf-8")
    encoder, _, *others = blocks("add-a-network.md", "python")
    (tmp_path / "nets.py").write_text("\n".join([encoder, *others]), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("my_pqn", "nets"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


def commands(page: str) -> list[list[str]]:
    """The `asyncrl train` commands of a page."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return [shlex.split(line, comments=True)[1:] for line in text.splitlines() if line.startswith("asyncrl train ")]


@pytest.mark.parametrize(("page", "count"), [("add-an-algorithm.md", 2), ("add-a-network.md", 3)])
def test_the_commands_of_the_guides_run(outside: Path, page: str, count: int) -> None:
    found = commands(page)
    assert len(found) == count
    for number, command in enumerate(found):
        short = [] if "--help" in command else [*SHORT, "--run-dir", str(number)]
        assert main([*command, *short]) == 0


def test_the_algorithm_of_the_guide_is_trained_continued_and_evaluated(outside: Path) -> None:
    (settings,) = blocks("add-an-algorithm.md", "toml")
    (outside / "my_pqn.toml").write_text(settings, encoding="utf-8")
    options = ["--steps", "2_560", "--eval-episodes", "0", "--no-video", "--quiet"]
    hashes = set()
    for engine in ("serial", "threads"):
        assert main(["train", "--config", "my_pqn.toml", *options, "--engine", engine, "--run-dir", engine]) == 0
        hashes.add(weights_of(open_run(outside / engine)))
    assert len(hashes) == 1
    assert main(["train", "--resume", "serial", "--steps", "5_120", "--no-video", "--quiet"]) == 0
    assert main(["evaluate", "serial", "--episodes", "2"]) == 0


def test_the_programs_of_the_guides_run(outside: Path) -> None:
    for module, name, page in (("my_pqn", "PQN", "add-an-algorithm.md"), ("nets", "Encoder", "add-a-network.md")):
        found = getattr(importlib.import_module(module), name)
        program = blocks(page, "python")[1].replace("20_000", "2_000")
        exec(program, {"asyncrl": asyncrl, name: found})


@pytest.mark.slow
def test_the_tests_of_the_guide_pass(outside: Path) -> None:
    scope: dict[str, Any] = {"PQN": importlib.import_module("my_pqn").PQN}
    exec(blocks("add-an-algorithm.md", "python")[2], scope)
    tests = [test for name, test in scope.items() if name.startswith("test_")]
    assert len(tests) == 2
    for test in tests:
        test()


def test_the_other_networks_of_the_guide_are_trained(outside: Path) -> None:
    small: dict[str, Any] = dict(steps=480, actors=2, envs_per_actor=4, eval_episodes=0)
    asyncrl.train("CartPole-v1", "a3c", network="nets:SmallPolicy", run_dir=outside / "whole", **small)
    asyncrl.train("worlds:Toolbox-v0", "a3c", network="nets:Parts", run_dir=outside / "parts", **small)


def test_the_family_of_the_guide_is_trained_and_evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "grid.py").write_text(blocks("add-an-environment-family.md", "python")[0], encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    from grid import Grid  # type: ignore[import-not-found]

    families = (Grid(), *asyncrl.envs.registry.FAMILIES)
    for module in (asyncrl.envs, asyncrl.envs.registry, asyncrl.envs.contract_checks):
        monkeypatch.setattr(module, "FAMILIES", families)
    hashes = set()
    for engine in ("serial", "threads"):
        config = configure("Grid-5x5", "a3c", engine=engine, steps=1_280, actors=2, envs_per_actor=4, eval_episodes=2)
        run, _ = start(config, tmp_path / engine)
        hashes.add(weights_of(run))
    assert len(hashes) == 1
    assert asyncrl.evaluate(run.path, episodes=2).mean <= 1
    with pytest.raises(asyncrl.UsageError, match="there is no environment 'Grid-big'; grids are called"):
        configure("Grid-big", "a3c").env_ids and asyncrl.envs.describe("Grid-big")


def test_the_settings_file_of_the_page_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text(blocks("settings.md", "toml")[0], encoding="utf-8")
    scope: dict[str, Any] = {"asyncrl": asyncrl}
    exec(blocks("settings.md", "python")[0], scope)
    config, _ = scope["run"].beginning()
    assert (config.network.hidden, config.seed, config.steps) == ((128, 128), 2, 2_000)


def test_the_masked_environment_of_the_page_is_trained_in_and_acted_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source,) = (block for block in blocks("environments.md", "python") if "class Tiles" in block)
    (tmp_path / "tiles.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    run, _ = start(configure("tiles:Tiles", "ppo", steps=1_024, eval_episodes=3, engine="serial"), tmp_path / "run")
    from tiles import Tiles  # type: ignore[import-not-found]

    env, agent = Tiles(), asyncrl.load(run.path)
    observation, _ = env.reset(seed=1)
    over = False
    while not over:
        observation, _, over, _, _ = env.step(agent.act(observation, action_mask=env.action_masks()))
    assert observation["filled"].all()


def test_every_algorithm_has_a_page() -> None:
    pages = {page.stem for page in (ROOT / "docs" / "algorithms").glob("*.md")}
    assert pages - {"index", "rainbow"} == ALGORITHMS.keys()
