"""Supervised workers equal SyncVectorEnv; failed ones are restarted, and hopeless ones are reported."""

from __future__ import annotations

import contextlib
import functools
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import failing_envs
import gymnasium
import numpy as np
import psutil
import pytest
from envs.supervised_workers import (  # noqa: F401
    earlier_objects_are_left_out,
    nothing_is_left,
    played,
    supervised,
)
from forks import idle_fork
from gymnasium.vector import SyncVectorEnv
from process_ends import still_running

from asyncrl.envs.checked import CheckedEnv
from asyncrl.envs.options import Supervision
from asyncrl.envs.supervision import capsule
from asyncrl.envs.supervision.supervised import SupervisedVectorEnv
from asyncrl.envs.supervision.worker_process import Deadline
from asyncrl.errors import EnvironmentFault, UsageError


@pytest.fixture(scope="module")
def whole() -> list[Any]:
    """The steps without failures."""
    with supervised("Counting") as vector:
        return played(vector, 14)


def assert_same(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, tuple | list):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_same(a, b)
    else:
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def test_first_episodes_equal_those_of_sync_vector_env() -> None:
    make = functools.partial(gymnasium.make, "CartPole-v1")
    sync = SyncVectorEnv([make] * 2)
    vector = SupervisedVectorEnv(make, 2, contract={"env": "CartPole-v1"})
    with contextlib.closing(vector):
        assert (vector.observation_space, vector.action_space) == (sync.observation_space, sync.action_space)
        assert vector.metadata == sync.metadata
        begun, others = vector.reset(seed=5), sync.reset(seed=5)
        assert_same(begun, others)
        random, running = np.random.default_rng(0), np.ones(2, bool)
        while running.any():
            actions = random.integers(2, size=2)
            one, other = vector.step(actions), sync.step(actions)
            assert_same([x[running] for x in one[:4]], [x[running] for x in other[:4]])
            running &= ~(one[2] | one[3])
        memory = [psutil.Process(worker.pid).memory_full_info() for worker in vector._workers]
        assert max(m.rss for m in memory) < 90 * 2**20


def test_infos_and_nested_observations_equal_those_of_sync_vector_env() -> None:
    with supervised("Structured", 2, kwargs={"at": -1}) as vector:
        sync = SyncVectorEnv([functools.partial(failing_envs.Structured, at=-1)] * 2)
        assert_same(vector.reset(seed=[4, 9]), sync.reset(seed=[4, 9]))
        vector.action_space.seed(1)
        for _ in range(5):
            actions = vector.action_space.sample()
            assert_same(vector.step(actions), sync.step(actions))


def test_the_seed_of_every_episode_follows_from_the_first() -> None:
    with supervised("Counting", 2) as vector:
        seeds = [vector.reset(seed=[6, 7])[1]["seed"]]
        for step in range(1, 26):
            *_, truncated, infos = vector.step(np.zeros(2, int))
            assert truncated.all() == (step % 13 == 12)
            if step % 13 == 0:
                seeds.append(infos["seed"])
        again = vector.reset()[1]["seed"]
    assert len(np.unique([*seeds, again])) == 6
    assert all((s % 2 == [0, 1]).all() for s in seeds), "training's are even, evaluation's odd"


def test_workers_run_without_torch_and_keep_their_order(whole: list[Any]) -> None:
    assert [came[0][0, 1:].tolist() for came in whole] == [[step % 13, 0] for step in range(15)]


FLAKY = ["Leaving", "Killed", "Exiting"]


@pytest.mark.parametrize("name", FLAKY)
def test_a_single_failure_leaves_no_trace_in_the_results(tmp_path: Path, whole: list[Any], name: str) -> None:
    with supervised(name, kwargs={"once": str(tmp_path)}) as vector:
        assert_same(played(vector, 8), whole[:9])
        assert vector.restarted == 1


def test_nested_observations_are_replayed(tmp_path: Path) -> None:
    folder = str(tmp_path / "capsules")
    with supervised("Structured", kwargs={"once": str(tmp_path)}, capsules=folder) as vector:
        sync = SyncVectorEnv([functools.partial(failing_envs.Structured, at=-1)])
        assert_same(vector.reset(seed=1), sync.reset(seed=1))
        for _ in range(7):
            actions = vector.action_space.sample()
            assert_same(vector.step(actions), sync.step(actions))
        assert vector.restarted == 1
    outcome = capsule.replay(capsule.load(vector.capsules[0]), failing_envs.Structured)
    assert outcome.reproduced


def test_a_failed_reset_is_retried_and_then_gets_another_seed(tmp_path: Path) -> None:
    with supervised("Raising", kwargs={"at": 0, "once": str(tmp_path)}) as vector:
        assert vector.reset(seed=4)[1]["seed"] == [4]
        assert vector.restarted == 1
    with (
        supervised("Raising", kwargs={"at": 0}, restarts=2) as vector,
        pytest.raises(EnvironmentFault, match=r"seed \d{5,}; after 2 restarts"),
    ):
        vector.reset(seed=4)
    assert vector.restarted == 2


def test_an_episode_that_fails_twice_is_truncated_until_no_restarts_are_left(tmp_path: Path) -> None:
    with supervised("Raising", kwargs={"at": 3}, restarts=3, capsules=str(tmp_path / "capsules")) as vector:
        vector.reset(seed=4)
        seen = [vector.step([1]) for _ in range(3)]
        assert_same(seen[2][0], seen[1][0])
        assert [float(x[0]) for x in seen[2][1:4]] == [0.0, False, True]
        assert seen[2][4]["restarted"].all()
        assert vector.restarted == 2
        observation, reward, terminated, truncated, infos = vector.step([1])
        assert (observation[0, 1], reward, terminated, truncated) == (0, 0, False, False)
        assert infos["seed"] != 4
        with pytest.raises(EnvironmentFault, match="raised RuntimeError in step: the walk collapsed") as caught:
            played(vector, 3)
    assert "after 3 restarts; asyncrl repro" in str(caught.value)
    assert 'raise RuntimeError("the walk collapsed")' in caught.value.traceback
    assert len(vector.capsules) == len(list((tmp_path / "capsules").iterdir())) == 4


def test_an_episode_that_replays_differently_is_truncated(tmp_path: Path) -> None:
    with supervised("Forgetful", kwargs={"once": str(tmp_path)}) as vector:
        assert played(vector, 5)[-1][4]["restarted"].all()
        assert vector.restarted == 1


def test_a_hanging_worker_is_killed_and_its_stack_is_reported() -> None:
    with supervised("Hanging", step_timeout=1.0, restarts=0) as vector:
        with pytest.raises(EnvironmentFault, match=r"did not answer within 1 s \(in step 5") as caught:
            played(vector, 5)
        assert "failing_envs.py" in caught.value.traceback


@pytest.mark.parametrize("timeout", [0.5, 60.0])
def test_a_worker_does_not_hang_while_the_run_is_suspended(monkeypatch: pytest.MonkeyPatch, timeout: float) -> None:
    now = 1_000.0

    class SuspendedPoll:
        """The second wait takes an hour, and the third one has an answer."""

        waits = 0

        def poll(self, milliseconds: float) -> list[int]:
            nonlocal now
            self.waits += 1
            now += 3_600.0 if self.waits == 2 else milliseconds / 1_000
            return [1] if self.waits == 3 else []

    monkeypatch.setattr("time.monotonic", lambda: now)
    poll: Any = SuspendedPoll()
    poll.poll(0)
    deadline = Deadline(timeout)
    assert deadline.wait_for(poll)
    assert not deadline.wait_for(poll), "it is waited for no longer"


def test_a_worker_above_the_memory_limit_is_replaced_after_the_episode(tmp_path: Path, whole: list[Any]) -> None:
    with supervised("Leaking", kwargs={"once": str(tmp_path)}, memory_limit=100) as vector:
        assert_same(played(vector, 14), whole)
        assert vector.restarted == 1
    with (
        supervised("Leaking", memory_limit=100, restarts=0) as vector,
        pytest.raises(EnvironmentFault, match=r"used 1\d\d MiB, more than --memory-limit 100"),
    ):
        played(vector, 14)


def test_a_worker_above_the_memory_limit_is_replaced_within_an_episode(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, whole: list[Any]
) -> None:
    monkeypatch.setattr("asyncrl.envs.supervision.supervised._STEPS_PER_MEMORY_CHECK", 6)
    with supervised("Leaking", kwargs={"once": str(tmp_path)}, memory_limit=100) as vector:
        assert_same(played(vector, 8), whole[:9])
        assert vector.restarted == 1
    with supervised("Leaking", memory_limit=100) as vector:  # its successor leaks as much
        (*_, truncated, infos) = played(vector, 6)[-1]
        assert (truncated.all(), infos["restarted"].all(), vector.restarted) == (True, True, 2)


BROKEN = {
    "Blind": r"returned an observation that is not finite: nan at \(0,\)",
    "Priceless": "returned the reward nan",
    "Unrewarding": r"returned the reward None \(NoneType\), which is not one number",
    "Shapeless": r"returned an observation of shape \(2,\); its space has \(3,\)",
    "Complex": "returned an observation of dtype complex128; its space has float64",
    "FourFold": "returned a tuple of 4 from step, not the five",
    "Misspelt": r"returned an observation that is a dict with the keys \['age', 'wlak'\]; its space has the keys",
    "Nested": r"returned an observation\['walk'\] of shape \(3,\); its space has \(2,\)",
    "Uncounted": r"returned an observation\['age'\] that is 20; its space is Discrete\(20\)",
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_interface_is_named(name: str) -> None:
    env = CheckedEnv(getattr(failing_envs, name)())
    env.reset(seed=7)
    with pytest.raises(EnvironmentFault, match=BROKEN[name]) as caught:
        env.step({"go": 1, "by": np.zeros(2)} if issubclass(getattr(failing_envs, name), failing_envs.Structured) else 1)
    assert caught.value.traceback == ""


def test_a_broken_interface_is_not_retried() -> None:
    with supervised("Shapeless") as vector:
        with pytest.raises(EnvironmentFault, match=r"returned .*\(in step 1 of the episode with seed 7\)"):
            played(vector, 1)
        assert vector.restarted == 0


def test_the_error_of_a_constructor_is_reported() -> None:
    def make() -> Any:
        raise OSError("no display")

    with pytest.raises(EnvironmentFault, match="raised OSError in its making: no display") as caught:
        SupervisedVectorEnv(make, 1, contract={"env": "broken"})
    assert "no display" in caught.value.traceback


def test_actions_of_another_shape_or_kind_are_refused() -> None:
    with supervised("Counting") as vector:
        with pytest.raises(gymnasium.error.ResetNeeded):
            vector.step([0])
        vector.reset(seed=1)
        with pytest.raises(ValueError, match=r"actions have the shape \(2,\), not \(1,\)"):
            vector.step([0, 0])
        with pytest.raises(TypeError, match="Cannot cast"):
            vector.step([0.5])
        with pytest.raises(ValueError, match="1 environments need as many seeds, not 2"):
            vector.reset(seed=[1, 2])


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"step_timeout": 0}, "--step-timeout must be positive, not 0"),
        ({"memory_limit": 0}, "--memory-limit must be 1 or more, not 0"),
        ({"restarts": -1}, "--restarts must be 0 or more, not -1"),
    ],
)
def test_limits_out_of_range_are_refused(rules: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Supervision(**rules).check()


def test_environments_are_closed_although_a_fork_of_their_owner_lives_on(tmp_path: Path) -> None:
    with supervised("Closing", kwargs={"once": str(tmp_path)}) as vector, idle_fork():
        vector.reset(seed=0)
        vector.close()
        assert (tmp_path / "closed").exists()


def test_workers_end_when_their_parent_is_killed_even_inside_a_step() -> None:
    code = textwrap.dedent("""
        import functools, failing_envs
        from asyncrl.envs.supervision.supervised import SupervisedVectorEnv
        vector = SupervisedVectorEnv(failing_envs.Hanging, 1, contract={"env": "failing_envs:Hanging"})
        vector.reset(seed=1)
        for _ in range(4):
            vector.step([0])
        print("\\n".join(str(worker.pid) for worker in vector._workers), flush=True)
        vector.step([0])
    """)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        worker = psutil.Process(int(owner.stdout.readline()))
        worker.send_signal(signal.SIGINT)
        worker.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        assert worker.status() == psutil.STATUS_SLEEPING
        owner.kill()
    assert still_running([worker]) == []
