"""The programs and the notebook of `examples/` run, and learn something."""

from __future__ import annotations

import importlib
import warnings
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

EXAMPLES = Path(__file__).parents[2] / "examples"
ENVIRONMENTS = {
    "grid_world": "GridWorld",
    "trading": "Trading",
    "reaching": "Reaching",
    "allocation": "Allocation",
    "delayed_reward": "DelayedReward",
    "noisy_observation": "NoisyObservation",
}


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports an example; runs and datasets go to a temporary folder."""
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.syspath_prepend(EXAMPLES / "environments")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    monkeypatch.chdir(tmp_path)
    return importlib.import_module


@pytest.mark.parametrize("module", ENVIRONMENTS)
def test_the_environments_keep_to_gymnasiums_interface(module: str, example: Any) -> None:
    env: gymnasium.Env[Any, Any] = getattr(example(module), ENVIRONMENTS[module])()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*A Box observation space (max|min)imum value")
        check_env(env, skip_render_check=True)
    for seed in (1, 2):
        env.action_space.seed(seed)
        env.reset(seed=seed)
        rewards = []
        while True:
            _, reward, terminated, truncated, _ = env.step(env.action_space.sample())
            rewards.append(reward)
            if terminated or truncated:
                break
        assert len(rewards) <= 200
        assert np.isfinite(rewards).all()


@pytest.mark.slow
def test_an_environment_of_ones_own_is_learned_and_recorded(example: Any, tmp_path: Path) -> None:
    assert example("own_environment").main(steps=4_000, video=tmp_path / "room.gif") > 0.5
    assert (tmp_path / "room.gif").stat().st_size > 1_000


@pytest.mark.slow
def test_an_agent_learns_from_the_games_of_a_scripted_player(example: Any) -> None:
    pytest.importorskip("minari", reason="pip install 'asyncrl[data]'")
    scores = example("offline").main(steps=1_000, episodes=10)
    assert scores["scripted"] == 500
    assert scores["imitation"] > 100
    assert scores["dqn, offline"] > 50


@pytest.mark.slow
def test_a_network_of_ones_own_is_trained(example: Any) -> None:
    assert example("own_network").main(steps=6_000) > 50


@pytest.mark.slow
def test_an_algorithm_of_ones_own_is_checked_and_trained(example: Any) -> None:
    assert example("own_algorithm").main(steps=8_000) > 5


@pytest.mark.slow
def test_a_callback_stops_a_run_that_is_good_enough(example: Any) -> None:
    run = example("own_callback").main(steps=60_000, target=60.0)
    assert run.stopped_because is not None
    assert run.stopped_because.startswith("an evaluation reached")


@pytest.mark.slow
def test_an_agent_learns_to_sort_with_allowed_swaps_alone(example: Any) -> None:
    assert example("action_masks").main(steps=6_000) > 0.5  # the environment raises at a forbidden action


@pytest.mark.slow
def test_the_quickstart_notebook_runs_in_a_kernel(tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat", reason="pip install nbclient ipykernel")
    nbclient = pytest.importorskip("nbclient", reason="pip install nbclient ipykernel")
    pytest.importorskip("ipykernel", reason="pip install nbclient ipykernel")
    notebook = nbformat.read(EXAMPLES / "quickstart.ipynb", as_version=4)
    shorter = {"100_000": "4_096", "20_000": "4_096", "episodes=50": "episodes=5", "max_steps=200": "max_steps=20"}
    for cell in notebook.cells:
        for value, replacement in shorter.items():
            cell.source = cell.source.replace(value, replacement)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    displays = [output.data for output in shown if output.output_type == "display_data"]
    panels = [data["text/html"] for data in displays if "text/html" in data]
    assert len(panels) == 2  # one for each run, redrawn in place
    assert "4,096 / 4,096" in panels[0]
    assert "ppo on __main__:Corridor" in panels[1]
    assert sum("image/jpeg" in data for data in displays) == 1  # the game
