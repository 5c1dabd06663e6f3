"""Environments that draw from their process's random generators: episodes are functions of their seeds all the same."""

from __future__ import annotations

import random
import threading
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from global_rng_envs import Careless, Together
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

import asyncrl
from asyncrl.acting.actor import Actor
from asyncrl.engines import Memory, MemoryPlan
from asyncrl.envs import Backend, Environments, EnvOptions, describe, global_generators
from asyncrl.envs.action_masks import MaskedVectorEnv
from asyncrl.envs.spaces import MaskSource
from asyncrl.envs.sync_vector import SyncEnvs
from asyncrl.envs.vector_adapters import NextStepVectorEnv
from asyncrl.errors import EnvironmentFault
from asyncrl.experience.rollout import Ticket
from asyncrl.runs.components import actor_spec, make_learner
from asyncrl.runs.config.resolution import resolve

SOURCES = ["numpy", "normal", "python", "gauss", "torch", "space", "goal", "own"]
SMALL: dict[str, Any] = dict(steps=384, actors=2, envs_per_actor=2, t_max=12, eval_episodes=0, seed=5)


def contract_of(sources: str, backend: Backend = Backend.SYNC) -> asyncrl.envs.Contract:
    return describe("global_rng_envs:Careless", EnvOptions(env_kwargs=f'{{"sources": "{sources}"}}', env_backend=backend))


def episodes(sources: str, seeds: list[int], steps: int, backend: Backend = Backend.SYNC) -> np.ndarray:
    """[T+1, B, 3] observations of environments with these seeds, stepped together."""
    environments = Environments(contract_of(sources, backend), len(seeds))
    try:
        seen = [environments.reset(seeds)]
        seen += [environments.step(np.zeros(len(seeds), dtype=np.int64)).observation for _ in range(steps)]
    finally:
        environments.close()
    return np.stack(seen)


@settings(max_examples=25)
@given(
    source=st.sampled_from(SOURCES),
    steps=st.integers(1, 40),
    seeds=st.lists(st.integers(0, 2**31 - 1), min_size=2, max_size=4),
)
def test_other_environments_change_nothing_and_seeds_are_reproducible(source: str, steps: int, seeds: list[int]) -> None:
    together = episodes(source, seeds, steps)[..., 1:]
    for place, seed in enumerate(seeds):
        assert np.array_equal(together[:, place], episodes(source, [seed], steps)[:, 0, 1:])


@pytest.mark.parametrize("source", SOURCES)
def test_other_seeds_and_other_constructions_give_other_episodes(source: str) -> None:
    seen = episodes(source, [2, 4], 20)
    assert not np.array_equal(seen[:, 0, 1:], seen[:, 1, 1:])
    assert len(np.unique(seen[:, 0, 1])) == 3, "three episodes begin in three ways"
    assert seen[0, 0, 0] != seen[0, 1, 0]


def test_workers_and_the_actor_draw_the_same_numbers() -> None:
    everything = " ".join(SOURCES)
    assert contract_of(everything).shared_generators == "own per episode"
    one, other = (episodes(everything, [2, 4], 30, backend) for backend in (Backend.SYNC, Backend.ASYNC))
    assert np.array_equal(one, other)


def test_what_gymnasium_draws_without_a_seed_follows_from_the_environments_seed() -> None:
    """FrozenLake's constructor draws a map, from a generator that Gymnasium makes without a seed."""
    contract = describe("FrozenLake-v1", EnvOptions(env_kwargs='{"map_name": null}'))

    def maps(seed: int) -> list[bytes]:
        vector = Environments(contract, 2, seed=seed).vector.unwrapped
        assert isinstance(vector, SyncEnvs)
        return [env.get_wrapper_attr("desc").tobytes() for env in vector.envs]

    assert maps(1) == maps(1)
    assert len({*maps(1), *maps(2)}) == 4


@pytest.mark.parametrize("steps", [5, 9, 23])
def test_environments_are_restored(steps: int) -> None:
    one, other = (Environments(contract_of(" ".join(SOURCES)), 2) for _ in range(2))
    one.reset([2, 4])
    action = np.zeros(2, dtype=np.int64)
    for _ in range(steps):
        seen = one.step(action).observation
    assert one.seeds_and_steps is not None
    seeds, since = one.seeds_and_steps.tolist()
    restored = other.replay_to(seeds, [np.zeros(n, dtype=np.int64) for n in since])
    assert restored is not None
    assert np.array_equal(restored[0], seen)
    for _ in range(30):
        assert np.array_equal(one.step(action).observation, other.step(action).observation)


def test_watching_ends_unless_a_draw_was_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(global_generators, "_WATCHED_STEPS", 50)
    monkeypatch.setattr(global_generators, "_WATCHED_RESETS", 5)
    for sources, lasts in (("", False), ("python", True)):
        environments = Environments(contract_of(sources), 2)
        environments.reset([2, 4])
        for _ in range(80):
            environments.step(np.zeros(2, dtype=np.int64))
        vector = environments.vector
        assert isinstance(vector, SyncEnvs)
        assert [env.is_isolated for env in vector._checked] == [lasts, lasts]
    watched = episodes("gauss", [2, 4], 120)
    monkeypatch.setattr(global_generators, "_WATCHED_STEPS", 10_000)
    assert np.array_equal(watched, episodes("gauss", [2, 4], 120))


def test_the_callers_generators_are_restored(tmp_path: Path) -> None:
    def state() -> tuple[Any, ...]:
        name, key, *rest = np.random.get_state()
        return name, key.tolist(), rest[0], random.getstate(), torch.get_rng_state().tolist()

    train = asyncrl.train  # importing rich draws a number
    before = state()
    train("global_rng_envs:Careless", "a3c", engine="serial", run_dir=tmp_path / "run", **{**SMALL, "eval_episodes": 2})
    assert state() == before


def test_waiting_for_an_environment_in_another_thread_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(global_generators, "_LOCK_TIMEOUT", 0.05)
    has_them, may_end = threading.Event(), threading.Event()

    def hang() -> None:
        with global_generators.preserved_generators():
            has_them.set()
            may_end.wait()

    thread = threading.Thread(target=hang)
    thread.start()
    has_them.wait()
    try:
        with pytest.raises(EnvironmentFault, match="for an environment in another thread, which has not returned"):
            contract_of("")
    finally:
        may_end.set()
        thread.join()


def another_thread_may_call() -> bool:
    """Whether another thread could be inside an environment now."""
    found: list[bool] = []

    def look() -> None:
        if global_generators._lock.acquire(blocking=False):
            global_generators._lock.release()
            found.append(True)

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    return bool(found)


class Listed(spaces.Box):
    """A space that notes whether another thread could have been inside an environment when its generator was taken."""

    taken: ClassVar[list[bool]] = []

    @property
    def np_random(self) -> np.random.Generator:
        self.taken.append(another_thread_may_call())
        return super().np_random


class Chooser(Careless):
    """Its spaces belong to the class; its constructor draws while another thread makes a space and takes its generator."""

    observation_space: ClassVar = Listed(-1.0, 1.0, (3,), np.float32)
    is_disturbed = False

    def _draw(self) -> float:
        if self.is_disturbed:
            thread = threading.Thread(target=lambda: spaces.Discrete(2).sample())
            thread.start()
            thread.join()
        return super()._draw()


def test_spaces_of_other_threads_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def seen() -> list[float]:
        env = SyncEnvs("Chooser", lambda: Chooser("space own"), [3, 5])
        return [*env.reset(seed=[1, 2])[0].flat]

    quiet = seen()
    monkeypatch.setattr(Chooser, "is_disturbed", True)
    assert seen() == quiet


def test_spaces_that_environments_share_are_batched_outside_every_environments_calls() -> None:
    Listed.taken.clear()
    vector = SyncEnvs("Chooser", Chooser, [3, 5])
    assert Listed.taken
    MaskedVectorEnv(vector, MaskSource.INFO)
    assert not any(Listed.taken)


class Noting:
    """Notes whether another thread could have been inside an environment when this one was rendered and closed."""

    called: ClassVar[list[bool]] = []

    def render(self) -> Any:
        self.called.append(another_thread_may_call())

    def close(self, **kwargs: Any) -> None:
        self.called.append(another_thread_may_call())


class Drawn(Noting, Careless):
    metadata: ClassVar = {"render_modes": ["rgb_array"]}


class DrawnTogether(Noting, Together):
    pass


def test_environments_are_rendered_and_closed_outside_every_other_environments_calls() -> None:
    make = partial(Drawn, render_mode="rgb_array")
    for vector in (SyncEnvs("Drawn", make, [3]), NextStepVectorEnv(DrawnTogether, 3)):
        Noting.called.clear()
        vector.render()
        vector.close()
        assert Noting.called == [False, False]


def test_every_engine_gives_the_same_weights_and_actors_play_different_episodes(tmp_path: Path) -> None:
    runs = [
        asyncrl.train("global_rng_envs:Careless", "a3c", engine=engine, run_dir=tmp_path / engine, **SMALL)
        for engine in ("serial", "threads", "processes")
    ]
    one, *others = (asyncrl.load(run.path).checkpoint.weights() for run in runs)
    assert all(one.equal(other) for other in others)
    returns = [{r["return"] for r in runs[2].records() if r["kind"] == "episode" and r["actor"] == i} for i in (0, 1)]
    assert returns[0]
    assert not returns[0] & returns[1]


def test_a_third_party_vector_environment_follows_from_its_actors_seed() -> None:
    config = asyncrl.api.configure("global_rng_envs:CarelessTogether-v0", "a3c", **SMALL)
    contract = describe("global_rng_envs:CarelessTogether-v0")
    assert contract.shared_generators == "own per actor"
    spec = actor_spec(resolve(config, contract), contract)
    plan = MemoryPlan(spec.layout(), 1, 1, make_learner(resolve(config, contract), contract).weights.numel())
    memory = Memory(plan, plan.allocate())

    def rollout(index: int) -> torch.Tensor:
        memory.publish(0, torch.zeros(plan.num_weights))
        memory.fill(Actor(spec, index), Ticket(0, index, 0, 0, 0))
        return memory.slots[0].reward.clone()

    first = rollout(0)
    assert not first.equal(rollout(1))
    assert first.equal(rollout(0))
