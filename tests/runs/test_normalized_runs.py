"""Runs with normalization: the agent has its statistics, and acts with them wherever it goes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn

from asyncrl.acting.datasets import Demonstration
from asyncrl.agents.imitation import CloningOptions, clone
from asyncrl.api import evaluate, load, train
from asyncrl.cli import main
from asyncrl.envs import describe
from asyncrl.errors import CheckpointError, UsageError
from asyncrl.launch import resume, start
from asyncrl.networks import Normalizer
from asyncrl.runs.checkpoints import checkpoint
from asyncrl.runs.checkpoints.normalization import normalization_facts
from asyncrl.runs.components import make_learner
from asyncrl.runs.config.resolution import resolve
from asyncrl.runs.config.settings import configure
from asyncrl.runs.run import Run

ALL = dict(normalize_observation=True, normalize_value=True, normalize_return=True)
SHORT: dict[str, Any] = dict(engine="serial", actors=2, envs_per_actor=2, t_max=8, eval_episodes=0, steps=640)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("normalized") / "run"
    return start(configure("CartPole-v1", "a3c", **SHORT, **ALL), folder)[0]


def normalizer_of(agent: Any) -> Normalizer:
    found: Normalizer = agent.policy._network.body.encoder.normalizer
    return found


def test_evaluations_leave_the_statistics_alone(run: Run) -> None:
    agent = load(run)
    before = normalizer_of(agent).statistics.count.clone()
    first, second = (evaluate(agent, episodes=4, seed=3).returns for _ in range(2))
    assert first == second == evaluate(run, episodes=4, seed=3).returns
    assert torch.equal(normalizer_of(agent).statistics.count, before)


def test_an_exported_agent_acts_as_the_run(run: Run, tmp_path: Path) -> None:
    newest = checkpoint.load(run.checkpoints()[-1])
    checkpoint.export(newest, tmp_path / "agent")
    observations = np.random.default_rng(1).normal(size=(50, 4)).astype(np.float32)
    ours, theirs = (load(source).act(observations, greedy=True) for source in (run, tmp_path / "agent"))
    assert np.array_equal(ours, theirs)
    assert set(normalization_facts(checkpoint.load(tmp_path / "agent"))) == {"observation", "value"}


def test_inspect_shows_every_statistic(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(run.path), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)["normalization"]
    (observation,) = facts["observation"]
    assert 600 < observation["count"] == facts["return"]["count"] <= 640
    assert 0 < observation["std"][0] < observation["std"][1] < 3
    assert facts["value"]["count"] == 20  # updates
    assert main(["inspect", str(run.path)]) == 0
    text = capsys.readouterr().out
    assert f"{observation['count']:,} steps" in text
    assert "value mean" in text
    assert "return std" in text


def test_a_run_from_these_weights_continues_their_statistics(run: Run, tmp_path: Path) -> None:
    settings = {**SHORT, "steps": 32, "seed": 2}
    again, _ = start(configure("CartPole-v1", "a3c", init_from=str(run.path), **settings, **ALL), tmp_path / "again")
    before, after = (normalization_facts(checkpoint.load(one.checkpoints()[-1])) for one in (run, again))
    assert after["observation"][0]["count"] == pytest.approx(before["observation"][0]["count"] + 32, abs=4)
    assert after["observation"][0]["std"] == pytest.approx(before["observation"][0]["std"], rel=0.2)
    assert after["value"]["count"] == before["value"]["count"] + 1


def without(tensors: dict[str, Any]) -> None:
    del tensors["normalization"]


def negative(tensors: dict[str, Any]) -> None:
    tensors["normalization"]["observation.0.squares"][1] = -1.0


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (without, r"has no normalization\.safetensors, which resuming"),
        (negative, r"normalization\.safetensors holds impossible statistics"),
    ],
)
def test_a_run_is_not_resumed_from_other_statistics_than_its_own(
    run: Run, tmp_path: Path, damage: Callable[[dict[str, Any]], None], sentence: str
) -> None:
    copy = Path(shutil.copytree(run.path, tmp_path / "copy"))
    newest = checkpoint.load(Run(copy).checkpoints()[-1])
    tensors = {
        name.removesuffix(".safetensors"): newest.tensors(name.removesuffix(".safetensors")) for name in newest.files
    }
    damage(tensors)
    tensors["weights"] = {name: tensors["weights"][name] for name in newest.parameters}
    facts: dict[str, Any] = {name: getattr(newest, name) for name in ("step", "update", "seconds", "contract", "config")}
    checkpoint.save(newest.path, tensors, **facts)
    with pytest.raises(CheckpointError, match=sentence):
        resume(copy, steps=960)


class Far(gymnasium.Env[Any, Any]):
    """Observes 10,000 ± 1; the reward is 1,000 for naming the side."""

    observation_space: ClassVar = spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space: ClassVar = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._age = 0
        return self._see(), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        reward = 1_000.0 * (action == self._side)
        self._age += 1
        return self._see(), reward, self._age == 10, False, {}

    def _see(self) -> np.ndarray:
        self._side = int(self.np_random.integers(2))
        return np.float32([10_000 + 2 * self._side - 1])


@pytest.mark.parametrize("normalized", [False, True])
def test_an_observation_far_from_zero_is_learned_from_if_it_is_normalized(tmp_path: Path, normalized: bool) -> None:
    settings = dict(steps=4_000, engine="serial", actors=1, envs_per_actor=8, t_max=8, eval_episodes=20, eval_greedy=True)
    settings |= dict(learning_rate=3e-3, seed=1)
    run = train(f"{__name__}:Far", "a3c", run_dir=tmp_path / "run", **settings, **dict.fromkeys(ALL, normalized))
    mean = run.metrics("eval")["mean"][-1]
    assert mean > 9_900 if normalized else mean < 7_000


def test_imitation_normalizes_what_was_recorded() -> None:
    """And Adam, which sees every parameter, leaves the statistics alone."""
    contract = describe("CartPole-v1")
    random = np.random.default_rng(1)
    observations = random.normal(5.0, [[0.1, 1.0, 10.0, 1000.0]], (10, 31, 4)).astype(np.float32)
    episodes = [Demonstration(x, (x[:-1, 3] > 5).astype(np.int64), np.ones(30, np.float32), True) for x in observations]
    config = resolve(configure("CartPole-v1", "a3c", normalize_observation=True, seed=1), contract)
    learner = make_learner(config, contract)
    best = clone(learner, contract, episodes, CloningOptions(imitation_epochs=20, imitation_rate=3e-3), 1, lambda _: None)
    statistics = learner.network.body.encoder.normalizer.statistics
    assert float(statistics.count) == 270  # one episode is held out
    assert statistics.spread.tolist() == pytest.approx([0.1, 1.0, 10.0, 1000.0], rel=0.15)
    assert best.agreement is not None
    assert best.agreement > 0.9


class Parts(nn.Module):
    """An encoder of the user that reads one part of observations."""

    def __init__(self, spaces: Any) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 8)

    def forward(self, observation: dict[str, Tensor]) -> Tensor:
        discrete, numbers, bits = observation.values()
        assert (discrete.dtype, numbers.dtype, bits.dtype) == (torch.int64, torch.float32, torch.float32)
        return torch.tanh(self.layer(numbers))


def test_a_network_of_ones_own_sees_normalized_parts(tmp_path: Path) -> None:
    options = dict(network=f"{__name__}:Parts", env_kwargs='{"kind": "keys"}', normalize_observation=True)
    run, _ = start(configure("space_envs:SpaceEnv", "a3c", **SHORT, **options), tmp_path / "run")
    statistics = load(run).policy._network.body.encoder.normalizers[0].statistics
    assert statistics.spread.mean() == pytest.approx(1 / np.sqrt(3), abs=0.05)  # uniform from -1 to 1
    observed = normalization_facts(checkpoint.load(run.checkpoints()[-1]))["observation"]
    assert [one["part"] for one in observed] == ["''", "[7]"]


@pytest.mark.parametrize(
    ("algorithm", "settings", "sentence"),
    [
        ("dqn", dict(normalize_value=True), "--normalize-value: dqn learns no state value that could be normalized; a3c,"),
        ("random", dict(normalize_value=True), "--normalize-value: random learns no state value that could be normalized"),
        (
            "reinforce",
            dict(normalize_value=True),
            "--normalize-value: reinforce with --baseline mean has no value; use --baseline learned",
        ),
        (
            "reinforce",
            dict(normalize_return=True),
            "--normalize-return has no effect with --baseline mean, which normalizes",
        ),
        ("random", dict(normalize_return=True), "--normalize-return: random has no discount, so there is no discounted"),
        (
            "a3c",
            dict(normalize_observation=True, engine="hogwild"),
            "--normalize-observation averages over rollouts in their order, and the workers of --engine hogwild have none",
        ),
        (
            "a3c",
            dict(normalize_observation=True, standardize=100),
            "--standardize and --normalize-observation both scale observations; leave out one of them",
        ),
        (
            "a3c",
            dict(normalize_return=True, reward_scale=0.1),
            "--reward-scale has no effect with --normalize-return, which divides rewards by their scale",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(
    tmp_path: Path, algorithm: str, settings: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UsageError) as refusal:
        start(configure("CartPole-v1", algorithm, steps=640, eval_episodes=0, **settings), tmp_path / "run")
    assert sentence in str(refusal.value)


def test_bits_are_normalized(tmp_path: Path) -> None:
    config = configure("space_envs:SpaceEnv", "a3c", env_kwargs='{"kind": "bool"}', normalize_observation=True, **SHORT)
    run, _ = start(config, tmp_path / "run")
    (observation,) = normalization_facts(checkpoint.load(run.checkpoints()[-1]))["observation"]
    assert observation["mean"] == pytest.approx([0.5, 0.5], abs=0.1)  # lowest and highest


def test_discrete_observations_have_no_scale(tmp_path: Path) -> None:
    config = configure("space_envs:SpaceEnv", "a3c", env_kwargs='{"kind": "negative"}', normalize_observation=True)
    with pytest.raises(UsageError, match="--normalize-observation has no effect on discrete observations"):
        start(config, tmp_path / "run")
