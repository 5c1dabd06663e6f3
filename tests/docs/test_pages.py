"""Links, anchors and names of functions in the documentation exist; code on its pages runs."""

from __future__ import annotations

import ast
import json
import re
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import asyncrl
import asyncrl.envs.contract_checks
import asyncrl.envs.registry
import asyncrl.presets
from asyncrl.algorithms import ALGORITHMS
from asyncrl.api import configure
from asyncrl.launch import start

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "benchmarks").glob("*.md"), *ROOT.glob(".github/*.md")]
NAMED = re.compile(r"\[`[\w/]+\.py`\]\(([\w./]+)\)[ |]*\s*`([\w.]+)`")


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "docs" / page).read_text(encoding="utf-8"), re.S)


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


@pytest.fixture
def pqn(monkeypatch: pytest.MonkeyPatch) -> type:
    """The algorithm of docs/add-an-algorithm.md, registered with its preset."""
    module = types.ModuleType("pqn")
    monkeypatch.setitem(sys.modules, "pqn", module)
    exec(blocks("add-an-algorithm.md", "python")[0], module.__dict__)
    monkeypatch.setitem(ALGORITHMS, "pqn", module.PQN)
    return module.PQN  # type: ignore[no-any-return]


@pytest.fixture
def preset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "presets" / "pqn").mkdir(parents=True)
    (preset,) = blocks("add-an-algorithm.md", "toml")
    (tmp_path / "presets" / "pqn" / "cartpole.toml").write_text(preset, encoding="utf-8")
    monkeypatch.setattr(asyncrl.presets, "_FOLDER", tmp_path / "presets")
    asyncrl.presets._presets.cache_clear()
    yield
    asyncrl.presets._presets.cache_clear()


def weights_of(run: Any) -> str:
    return str(json.loads((run.marked("latest") / "manifest.json").read_text())["weights_sha256"])


@pytest.mark.usefixtures("preset")
def test_the_algorithm_of_the_guide_learns_the_same_on_every_engine(tmp_path: Path, pqn: type) -> None:
    hashes = set()
    for engine in ("serial", "threads"):
        config = configure("CartPole-v1", "pqn", engine=engine, steps=2_560, eval_episodes=0, seed=5)
        assert config.preset == "pqn/cartpole"
        run, outcome = start(config, tmp_path / engine)
        assert outcome.update == 10
        hashes.add(weights_of(run))
    assert len(hashes) == 1


def test_the_test_of_the_guide_passes(pqn: type) -> None:
    scope: dict[str, Any] = {"PQN": pqn}
    exec(blocks("add-an-algorithm.md", "python")[1], scope)
    scope["test_the_return_mixes_the_next_return_and_the_next_value"]()


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
    assert observation.all()


def test_the_run_of_the_page_on_normalization_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    scope: dict[str, Any] = {"asyncrl": asyncrl}
    exec(blocks("normalization.md", "python")[0], scope)
    assert scope["agent"].act(np.float32([1.0, 0.0, 0.5])).shape == (1,)


def test_the_callbacks_and_sinks_of_the_page_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    scope: dict[str, Any] = {}
    for block in blocks("callbacks-and-trackers.md", "python"):
        exec(block, scope)
    assert scope["run"].stopped_because in (None, "the mean return of 100 episodes is 450")
    assert len(scope["episodes"].returns) > 10
