"""The training loop: every engine and schedule, every preset, and learning."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from algorithm_worlds import world_of_preset

from asyncrl.api import configure, evaluate
from asyncrl.envs import describe
from asyncrl.errors import UsageError
from asyncrl.experience.rollout import Rollout, Ticket
from asyncrl.launch import newest_checkpoint, start
from asyncrl.monitor import Record
from asyncrl.presets import automatic, preset_names, read_preset
from asyncrl.runs.config.resolution import resolve
from asyncrl.runs.config.run_config import EngineKind, RunConfig
from asyncrl.runs.metrics.statistics import RunStatistics

ENGINES = ["serial", "threads", "processes"]
BATCH = 64
FREE: dict[str, Any] = dict(schedule="free", steps=20 * BATCH, actors=2, envs_per_actor=4, t_max=8, eval_episodes=0)
FREE |= dict(seed=5, log_every=BATCH)
PACKAGES = {"SuperMarioBros": "gym_super_mario_bros", "Vizdoom": "vizdoom", "academy": "envpool", "MiniGrid": "minigrid"}
PACKAGES |= {"Ant": "mujoco"}


@pytest.fixture
def consumed(monkeypatch: pytest.MonkeyPatch) -> list[Ticket]:
    """The tickets of all consumed rollouts, in order."""
    tickets: list[Ticket] = []
    consume = RunStatistics.consume

    def note(self: RunStatistics, update: int, rollouts: Mapping[Ticket, Rollout], waiting: int) -> list[Record]:
        tickets.extend(rollouts)
        return consume(self, update, rollouts, waiting)

    monkeypatch.setattr(RunStatistics, "consume", note)
    return tickets


def train_records(folder: Path) -> list[Record]:
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [record for record in records if record["kind"] == "train"]


@pytest.mark.parametrize("engine", ENGINES)
def test_the_free_schedule_learns_from_every_rollout_once_and_stops_at_the_step(
    tmp_path: Path, consumed: list[Ticket], engine: str
) -> None:
    run, outcome = start(configure("worlds:Dawdling-v0", "a3c", engine=engine, **FREE), tmp_path / "run")
    assert (outcome.update, outcome.step) == (20, 20 * BATCH)
    assert sorted(ticket.number for ticket in consumed) == list(range(40))
    records = train_records(run.path)
    assert [record["step"] for record in records] == [BATCH * n for n in range(1, 21)]
    assert all(0 <= record["policy_lag"] <= record["policy_lag_max"] for record in records)
    assert newest_checkpoint(run).step == 20 * BATCH


def test_how_far_actors_run_ahead_is_what_the_queue_holds(tmp_path: Path) -> None:
    """On `serial`, each rollout is made as soon as it is requested."""
    lags = {}
    for slots in (2, 4, 8):
        config = configure("worlds:Corridor-v0", "a3c", engine="serial", queue_size=slots, **FREE)
        lags[slots] = [r["policy_lag_max"] for r in train_records(start(config, tmp_path / str(slots))[0].path)]
    assert lags == {2: [0] * 20, 4: [0] + [1] * 19, 8: [0, 1, 2] + [3] * 17}


@pytest.mark.parametrize("engine", ["threads", "processes"])
def test_with_a_queue_of_one_update_actors_wait_for_its_weights(tmp_path: Path, engine: str) -> None:
    config = configure("worlds:Dawdling-v0", "a3c", engine=engine, queue_size=2, **FREE)
    assert {r["policy_lag_max"] for r in train_records(start(config, tmp_path / "run")[0].path)} == {0}


@pytest.mark.parametrize("lag", [0, 2])
def test_in_lockstep_the_lag_is_the_one_that_was_asked_for(tmp_path: Path, lag: int) -> None:
    config = configure("worlds:Corridor-v0", "a3c", engine="threads", **{**FREE, "schedule": "lockstep", "lag": lag})
    measured = [(r["policy_lag"], r["policy_lag_max"]) for r in train_records(start(config, tmp_path / "run")[0].path)]
    assert measured == [(min(k, lag), min(k, lag)) for k in range(20)]


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (dict(schedule="free", actors=3, queue_size=2), "--queue-size 2 is too small: 3 actors"),
        (dict(schedule="free", actors=1, rollouts_per_update=5, queue_size=4), "5 rollouts per update need 5 or more"),
        (dict(lag=1, actors=2, queue_size=3), "takes exactly 4"),
    ],
)
def test_a_queue_that_cannot_work_is_refused(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        resolve(configure("worlds:Corridor-v0", "a3c", **settings), describe("worlds:Corridor-v0"))


@pytest.mark.parametrize(
    ("algorithm", "settings", "reason"),
    [
        ("a3c", {}, "a3c does not measure how far an update moves its policy; ppo does"),
        ("ppo", dict(engine="hogwild"), "choose constant or linear"),
        ("ppo", dict(lag=0, epochs=1, minibatches=1), "with --epochs 1 --minibatches 1 --lag 0 .* it is always 0"),
        ("ppo", dict(target_kl=0.0), "--target-kl must be positive, not 0"),
    ],
)
def test_a_learning_rate_that_cannot_follow_the_policy_is_refused(
    algorithm: str, settings: dict[str, Any], reason: str
) -> None:
    config = configure("worlds:Corridor-v0", algorithm, learning_rate_schedule="kl", **settings)
    with pytest.raises(UsageError, match=reason):
        resolve(config, describe("worlds:Corridor-v0"))


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_fits_its_environments_and_survives_being_saved(name: str) -> None:
    tables = read_preset(name)
    env = world_of_preset(tables)
    algorithm = tables["algorithm"]["name"]
    for family, package in PACKAGES.items():
        if env.startswith(family) and find_spec(package) is None:
            pytest.skip(f"{env} needs {package}")
    config = configure(env, preset=name)
    if tables["environments"]:
        assert automatic(algorithm, env) == name
        assert config == configure(env, algorithm)
    elif "kinds" not in tables:  # reproduces another system; chosen by name only
        assert automatic(algorithm, env) != name
        assert tables["source"]
        assert tables["deviations"]
    resolved = resolve(config, describe(env, config.environment))
    assert resolved.engine is not EngineKind.AUTO
    assert RunConfig.from_json(json.loads(json.dumps(resolved.to_json()))) == resolved
    saved = config.to_json()
    assert_within({name: tables.get(name, {}) for name in ("algorithm", "optimizer", "environment", "network")}, saved)
    assert_within(tables["run"], saved)


def assert_within(table: dict[str, Any], saved: dict[str, Any]) -> None:
    """Check that `saved` contains `table`, nested tables included."""
    for name, value in table.items():
        if isinstance(value, dict):
            assert_within(value, saved[name])
        else:
            assert saved[name] == value, name


def test_a_setting_overrides_the_preset_and_an_unknown_one_is_refused() -> None:
    assert configure("CartPole-v1", "a3c", t_max=3).algorithm.experience().steps == 3
    with pytest.raises(UsageError, match="unknown setting 'learning_rat'; did you mean 'learning_rate'"):
        configure("CartPole-v1", "a3c", learning_rat=3)


def test_the_corridor_is_learned(tmp_path: Path) -> None:
    settings = dict(steps=12_000, actors=2, envs_per_actor=8, t_max=10, learning_rate=5e-3, eval_episodes=0, seed=5)
    run, _ = start(configure("worlds:Corridor-v0", "a3c", engine="serial", **settings), tmp_path / "run")
    assert evaluate(run.path, 50, greedy=False).mean > 0.9
