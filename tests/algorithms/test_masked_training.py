"""Every algorithm heeds action masks: its environment raises on a forbidden action."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_lockstep import MEMORY, OWN

from asyncrl.algorithms import ALGORITHMS
from asyncrl.api import configure, evaluate
from asyncrl.launch import start

SMALL: dict[str, Any] = dict(steps=400, actors=2, envs_per_actor=4, eval_episodes=2, engine="serial", seed=5)
SEQUENCES: dict[str, Any] = MEMORY | dict(recurrent="lstm", recurrent_size=8, sequence_length=6, burn_in=2, n_step=2)
CONTINUOUS = ("sac", "td3")
DQN_SWITCHES: dict[str, Any] = MEMORY | dict(
    double=True, dueling=True, noisy=True, n_step=3, prioritized=True, cql_alpha=0.5
)


def train_and_play(folder: Path, algorithm: str, env: str = "masked_envs:Moves", **settings: Any) -> None:
    """Train and evaluate, ε-greedily where values are learned."""
    run, _ = start(configure(env, algorithm, **{**SMALL, **OWN.get(algorithm, {}), **settings}), folder)
    played = evaluate(run.path, 5, epsilon=0.5 if ALGORITHMS[algorithm].network.__name__.endswith("QNetwork") else 0.0)
    assert len(played.returns) == 5


@pytest.mark.parametrize("algorithm", [name for name in ALGORITHMS if name not in CONTINUOUS])
def test_every_algorithm_takes_allowed_actions_only(tmp_path: Path, algorithm: str) -> None:
    train_and_play(tmp_path / "run", algorithm)


@pytest.mark.parametrize(
    ("algorithm", "settings"),
    [
        ("dqn", DQN_SWITCHES),
        ("c51", DQN_SWITCHES | dict(cql_alpha=0.0)),
        ("qr-dqn", DQN_SWITCHES | dict(cql_alpha=0.0)),
        ("dqn", MEMORY | dict(hold_random_actions=True, epsilon_start=2.0, munchausen=True)),
        ("iqn", MEMORY | dict(dueling=True, munchausen=True)),
        ("dqn", SEQUENCES | dict(double=True, prioritized=True, td_loss="squared")),
        ("iqn", SEQUENCES | dict(munchausen=True)),
        ("ppo", dict(t_max=8, minibatches=2, recurrent="lstm", recurrent_size=8)),
        ("n-step-q", dict(target_every=200, recurrent="gru", recurrent_size=8)),
        ("n-step-q", dict(target_every=200, engine="hogwild")),
        ("a3c", dict(precision="bf16", layer_norm=True)),
        ("a3c", dict(network="radial")),
        ("ppo", dict(t_max=8, normalize_observation=True, normalize_return=True, normalize_value=True)),
    ],
)
def test_with_every_switch(tmp_path: Path, algorithm: str, settings: dict[str, Any]) -> None:
    settings = {name: value for name, value in settings.items() if name != "cql_alpha" or algorithm == "dqn"}
    train_and_play(tmp_path / "run", algorithm, **settings)


@pytest.mark.parametrize("algorithm", ["a3c", "ppo", "random"])
def test_actions_of_several_parts_too(tmp_path: Path, algorithm: str) -> None:
    train_and_play(tmp_path / "run", algorithm, "masked_envs:ByTuple", env_kwargs='{"choices": [2, 3, 4]}')
