"""Lockstep: the same configuration gives the same weights, bit for bit, on every engine and with any timing."""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from algorithm_worlds import world_of
from torch import Tensor
from worlds import Corridor

import asyncrl.training
from asyncrl.acting.actor import ActorSpec
from asyncrl.algorithms import ALGORITHMS
from asyncrl.api import configure
from asyncrl.engines import Engine, MemoryPlan, open_engine
from asyncrl.engines.memory import Memory
from asyncrl.errors import ScheduleError
from asyncrl.experience.rollout import NEWEST_VERSION, Rollout, Ticket
from asyncrl.launch import start
from asyncrl.runs.config.resolution import resolve
from asyncrl.runs.schedule import Lockstep
from asyncrl.testing import check_lockstep

ENGINES = ["serial", "threads", "processes"]
SMALL: dict[str, Any] = dict(steps=960, actors=3, envs_per_actor=4, t_max=8, eval_episodes=0, seed=5)
SMALL |= dict(learning_rate=0.01)  # with smaller updates, a policy that is one too old takes the same actions


def weights_after(
    folder: Path,
    env: str = "worlds:Corridor-v0",
    algorithm: str = "a3c",
    settings: dict[str, Any] | None = None,
    **more: Any,
) -> str:
    """The hash of the final weights of a short run."""
    run, _ = start(configure(env, algorithm, **{**(SMALL if settings is None else settings), **more}), folder)
    manifest = run.marked("latest") / "manifest.json"
    return str(json.loads(manifest.read_text())["weights_sha256"])


@functools.cache
def serial_weights(lag: int) -> str:
    """The hash that several tests compare with."""
    with tempfile.TemporaryDirectory() as folder:
        return weights_after(Path(folder) / "serial", engine="serial", lag=lag)


class Late:
    """An adversary that requests each rollout only when the learner waits for it."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self._held = engine, {}

    def publish(self, version: int, weights: Tensor) -> None:
        self._engine.publish(version, weights)

    def request(self, tickets: Sequence[Ticket]) -> None:
        self._held.update((ticket.number, ticket) for ticket in tickets)

    def collect(self, expected: Sequence[Ticket], should_stop: Callable[[], bool]) -> dict[Ticket, Rollout]:
        self._engine.request([self._held.pop(ticket.number) for ticket in expected])
        return self._engine.collect(expected, should_stop)

    def close(self) -> None:
        self._engine.close()

    @property
    def ready(self) -> int:
        return self._engine.ready


def with_adversary(monkeypatch: pytest.MonkeyPatch) -> None:
    def open_late(kind: object, spec: ActorSpec, actors: int, plan: MemoryPlan, *ray: object) -> Late:
        return Late(open_engine(kind, spec, actors, plan))  # type: ignore[arg-type]

    monkeypatch.setattr(asyncrl.training, "open_engine", open_late)


@pytest.mark.parametrize("lag", [0, 3])
def test_every_engine_gives_the_same_weights(tmp_path: Path, lag: int) -> None:
    hashes = {engine: weights_after(tmp_path / engine, engine=engine, lag=lag) for engine in ENGINES[1:]}
    assert {*hashes.values()} == {serial_weights(lag)}, hashes


NORMALIZED = dict(normalize_observation=True, normalize_return=True)


@pytest.mark.parametrize("lag", [0, 3])
def test_every_engine_gives_the_same_statistics(tmp_path: Path, lag: int) -> None:
    settings = dict(lag=lag, normalize_value=True, **NORMALIZED)
    hashes = {engine: weights_after(tmp_path / engine, engine=engine, **settings) for engine in ENGINES}
    assert len(set(hashes.values())) == 1, hashes


def test_a_repeated_run_gives_the_same_weights(tmp_path: Path) -> None:
    assert weights_after(tmp_path / "run", engine="serial", lag=3) == serial_weights(3)


STORED = dict(learning_starts=150, capacity=360, batch_size=16, replay_ratio=0.1)
MEMORY = STORED | dict(target_every=200)
RECORDED = MEMORY | dict(replay_ratio=0.3)  # enough gradient steps for their operations to be recorded
RECURRENT = dict(recurrent_size=8, sequence_length=4, burn_in=2)
LSTM = dict(recurrent="lstm", recurrent_size=8)
OWN = {
    "dqn": MEMORY,
    "c51": MEMORY,
    "qr-dqn": MEMORY,
    "iqn": MEMORY | dict(munchausen=True, double=True, n_step=2),
    "sac": STORED,
    "sac-discrete": STORED,
    "td3": STORED,
    "ppo": dict(t_max=8, epochs=2, minibatches=3),
    "pqn": dict(t_max=8, epochs=2, minibatches=3),
    "reinforce": dict(longest_episode=10),
    "actor-critic": dict(longest_episode=10),
    "one-step-q": dict(target_every=200),
    "one-step-sarsa": dict(target_every=200),
    "n-step-q": dict(target_every=200),
}


@pytest.mark.parametrize("algorithm", [name for name in ALGORITHMS if name != "random"])  # random learns nothing
def test_every_algorithm_has_the_same_weights_on_every_engine_and_others_with_another_seed(
    tmp_path: Path, algorithm: str
) -> None:
    settings = dict(steps=400, actors=3, envs_per_actor=4, eval_episodes=0, lag=2, rollouts_per_update=2)
    settings |= OWN.get(algorithm, {})
    weights = check_lockstep(world_of(algorithm), algorithm, **settings, seed=5)
    other = check_lockstep(world_of(algorithm), algorithm, **settings, seed=6, engines=["serial"])
    assert not all(tensor.equal(other[name]) for name, tensor in weights.items())


@pytest.mark.parametrize(
    ("algorithm", "more"),
    [
        ("a3c", LSTM),
        ("ppo", dict(recurrent="gru", recurrent_size=8, t_max=8, epochs=2, minibatches=2)),
        ("ppo", dict(t_max=8, minibatches=1, epochs=1)),
        ("ppo", dict(t_max=8, epochs=2, minibatches=2, learning_rate_schedule="kl", target_kl=1e-4)),
        ("a3c", dict(publish_every=3)),
        ("n-step-q", dict(publish_every=4, target_every=100)),
        ("dqn", RECORDED | dict(double=True, dueling=True, n_step=3, prioritized=True, target_every=0, tau=0.01)),
        ("c51", MEMORY | dict(noisy=True, prioritized=True, replay_storage="disk")),
        ("dqn", MEMORY | RECURRENT | dict(recurrent="lstm", double=True, n_step=2, prioritized=True)),
        ("iqn", MEMORY | RECURRENT | dict(recurrent="gru", munchausen=True, tau=0.01, target_every=0)),
        ("ppo", dict(t_max=8, epochs=2, minibatches=2, normalize_value=True, **NORMALIZED, **LSTM)),
        ("one-step-sarsa", dict(publish_every=3, target_every=100, **NORMALIZED)),
        ("dqn", MEMORY | dict(target_every=0, tau=0.01, **NORMALIZED)),
    ],
)
def test_memory_and_rare_publication_change_nothing_of_that(tmp_path: Path, algorithm: str, more: dict[str, Any]) -> None:
    settings = SMALL | dict(steps=448, rollouts_per_update=2, lag=2) | more
    hashes = {e: weights_after(tmp_path / e, algorithm=algorithm, settings=settings, engine=e) for e in ENGINES}
    assert len(set(hashes.values())) == 1, hashes


@pytest.mark.parametrize("algorithm", ["ppo", "dqn", "one-step-sarsa"])
def test_action_masks_change_nothing_of_that(tmp_path: Path, algorithm: str) -> None:
    settings = dict(steps=480, actors=3, envs_per_actor=4, eval_episodes=0, lag=2, seed=5) | OWN[algorithm]
    env = "masked_envs:Moves-v0"
    hashes = {e: weights_after(tmp_path / e, env, algorithm, settings, engine=e) for e in ENGINES}
    assert len(set(hashes.values())) == 1, hashes


def test_another_seed_or_lag_gives_other_weights(tmp_path: Path) -> None:
    """Otherwise equality could mean that nothing is learned."""
    other = weights_after(tmp_path / "other", engine="serial", lag=1, seed=6)
    assert len({other, *map(serial_weights, range(4))}) == 5


@pytest.mark.parametrize("engine", ["threads", "processes"])
def test_random_delays_in_actors_change_nothing(tmp_path: Path, engine: str) -> None:
    assert weights_after(tmp_path / "delayed", "worlds:Dawdling-v0", engine=engine, lag=2) == serial_weights(2)


@pytest.mark.parametrize("lag", [1, 3])
@pytest.mark.parametrize("engine", ["threads", "processes"])
def test_rollouts_that_start_as_late_as_the_schedule_allows_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str, lag: int
) -> None:
    expected = serial_weights(lag)
    with_adversary(monkeypatch)
    assert weights_after(tmp_path / "late", engine=engine, lag=lag) == expected


@pytest.mark.parametrize("engine", ["threads", "processes"])
def test_the_adversary_finds_a_weight_buffer_too_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str) -> None:
    with_adversary(monkeypatch)
    monkeypatch.setattr(Lockstep, "weight_buffers", property(lambda self: self.lag))
    with pytest.raises(ScheduleError, match="weights 0 were overwritten"):
        weights_after(tmp_path / "late", engine=engine, lag=2)


def test_a_slot_too_few_is_found_by_its_stamp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Lockstep, "slots", property(lambda self: self.lag * self.rollouts))
    with pytest.raises(ScheduleError, match="was requested"):
        weights_after(tmp_path / "short", engine="serial", lag=2)


def test_atari_is_the_same_on_every_engine(tmp_path: Path) -> None:
    settings = dict(steps=160, actors=2, envs_per_actor=1, t_max=20)
    hashes = {e: weights_after(tmp_path / e, "ALE/Pong-v5", engine=e, **settings) for e in ENGINES}
    assert len(set(hashes.values())) == 1, hashes


class Observed(Corridor):
    """Notes the number of torch's threads in every step."""

    threads: ClassVar[set[int]] = set()

    def step(self, action: int) -> Any:
        self.threads.add(torch.get_num_threads())
        return super().step(action)


@pytest.mark.parametrize("engine", ["serial", "threads"])
def test_actors_compute_with_one_thread_however_many_the_learner_has(tmp_path: Path, engine: str) -> None:
    """Eight add in another order than one in a large layer."""
    Observed.threads.clear()
    start(configure(Observed, "a3c", **SMALL | dict(steps=384), engine=engine, learner_threads=2), tmp_path / "run")
    assert Observed.threads == {1}


def test_weights_that_are_being_written_are_never_taken(tmp_path: Path) -> None:
    """Schedule `free`: the learner writes while actors read, which the stamp before and after reveals."""
    config = configure("worlds:Corridor-v0", "a3c", **SMALL)
    from asyncrl.envs import describe

    contract = describe(config.env)
    config = resolve(config, contract)
    spec = ActorSpec(config.algorithm, config.network, contract, 1, 2, 1, torch.float32)
    plan = MemoryPlan(spec.layout(), 1, 2, 100)
    memory = Memory(plan, plan.allocate())
    memory.publish(0, torch.zeros(100))
    taken = []

    def slow_copy(weights: Tensor) -> None:
        if len(taken) < 2:  # the learner laps the actor twice
            for version in (2 * len(taken) + 1, 2 * len(taken) + 2):
                memory.publish(version, torch.full((100,), float(version)))
        taken.append(weights.clone())

    version = memory._load(Ticket(0, 0, NEWEST_VERSION, 0, 0), slow_copy)
    assert version == 4
    assert (taken[-1] == 4).all()
