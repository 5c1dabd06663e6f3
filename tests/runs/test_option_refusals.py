"""Options that are refused, and the sentences that say why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from algorithm_worlds import world_of_preset
from small_runs import asked, refusal

from asyncrl import launch_checks
from asyncrl.api import evaluate, load
from asyncrl.envs import describe
from asyncrl.errors import UsageError
from asyncrl.launch import resume, start
from asyncrl.launch_checks import check_memory
from asyncrl.presets import preset_names, read_preset
from asyncrl.runs.config.option_checks import reject_unused_by_imitation
from asyncrl.runs.config.resolution import resolve
from asyncrl.runs.config.settings import configure


@pytest.mark.parametrize("name", preset_names())
def test_no_preset_sets_what_has_no_effect(name: str) -> None:
    preset = read_preset(name)
    env = world_of_preset(preset)
    tables = [preset[table] for table in ("algorithm", "optimizer", "environment", "network", "run") if table in preset]
    tables += [table for table in preset["algorithm"].values() if isinstance(table, dict)]
    assert refusal(configure(env, preset=name), *{key for table in tables for key in table} - {"name", "env"}) is None


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            dict(learning_starts=70),
            "--learning-starts 70: a run of 64 steps ends before its first update; lower it, or raise",
        ),
        (dict(target_every=200), "--target-every 200: a run of 64 steps never updates the target"),
        (dict(tau=0.1), "--target-every 40 and --tau 0.1 exclude each other"),
        (dict(publish_every=5), "--publish-every 5: a run of 4 updates never publishes weights to the actors; lower it"),
        (dict(reward_scale=0.0), "--reward-scale 0 makes all rewards 0"),
        (dict(eval_greedy=False), "--eval-greedy has no effect when switched off: the policy of dqn is deterministic"),
        (dict(eval_episodes=0, eval_every=32), "--eval-every has no effect without evaluations"),
        (dict(step_timeout=3.0), "--step-timeout has no effect without worker processes: add --env-backend async"),
        (dict(env_threads=2), "--env-threads has no effect on gymnasium environments"),
        (dict(network="radial", layer_norm=True), "--layer-norm has no effect on --network radial, which has no hidden"),
    ],
)
def test_what_is_refused_is_told_why_and_what_helps(settings: dict[str, Any], sentence: str) -> None:
    message = refusal(asked("dqn", settings), *settings)
    assert message is not None
    assert sentence in message
    assert message.startswith("worlds:Corridor-v0")


@pytest.mark.parametrize("settings", [dict(rollouts_per_update=2), dict(queue_size=5), dict(publish_every=5), dict(lag=1)])
def test_hogwild_has_no_queue(settings: dict[str, Any]) -> None:
    message = refusal(asked("a3c", dict(engine="hogwild", **settings)), *settings)
    assert message is not None
    assert "has no effect with --engine hogwild: every worker learns from its own rollout at once" in message


def test_settings_that_were_accepted_once_are_loaded_and_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run folder of 0.1.0 may hold an option that has no effect."""
    config = asked("a3c", dict(momentum=0.5, eval_episodes=0))
    with pytest.raises(UsageError, match="--momentum has no effect"):
        start(config, tmp_path / "new")
    monkeypatch.setattr("asyncrl.launch.reject_ineffective", lambda *_: None)
    run, _ = start(config, tmp_path / "old")
    monkeypatch.undo()
    resumed, outcome = resume(run.path, steps=128)
    assert outcome is not None
    assert load(resumed.path).checkpoint.config.optimizer.momentum == 0.5


def test_an_agent_that_draws_no_actions_cannot_be_asked_to(tmp_path: Path) -> None:
    run, _ = start(asked("dqn", dict(eval_episodes=0, burn_in=10)), tmp_path / "run")
    with pytest.raises(UsageError, match="--sample has no effect on dqn, whose policy is deterministic"):
        evaluate(run.path, 1, greedy=False)


def test_imitation_refuses_what_only_playing_and_learning_from_it_depend_on() -> None:
    reject_unused_by_imitation({"hidden", "seed", "reward_scale", "atoms"})
    with pytest.raises(
        UsageError, match=r"--learning-rate has no effect on imitation.*--imitation-rate is its learning rate"
    ):
        reject_unused_by_imitation({"hidden", "learning_rate"})


@pytest.mark.parametrize("engine", ["processes", "ray"])
def test_actors_in_processes_here_need_memory_for_these(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch_checks, "available_memory", lambda: 10**9)
    config = configure("CartPole-v1", "a3c", actors=200, engine=engine)
    contract = describe(config.env, config.environment)
    with pytest.raises(UsageError, match=r"200 actors, .* take 2 GB or more, but only 1 GB are free"):
        check_memory(resolve(config, contract), contract)


def test_actors_on_a_cluster_need_no_memory_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch_checks, "available_memory", lambda: 10**9)
    config = configure("CartPole-v1", "a3c", actors=200, engine="ray", ray_address="auto")
    contract = describe(config.env, config.environment)
    check_memory(resolve(config, contract), contract)
