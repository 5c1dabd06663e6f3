"""Gymnasium's registry: contracts, refusals, backends that agree, and environments that break their word."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asyncrl.envs import Backend, Environments, EnvOptions, Step, Supervision, describe, make
from asyncrl.envs.families.atari import AtariOptions
from asyncrl.envs.families.pixels import StackOptions
from asyncrl.errors import EnvironmentFault, UsageError


def play(env: str, backend: Backend, steps: int, envs: int = 2) -> list[Step]:
    options = EnvOptions(env_backend=backend, supervision=Supervision(restarts=0))
    environments = Environments(describe(env, options), envs)
    actions = np.random.default_rng(0)
    try:
        environments.reset([2 * i + 2 for i in range(envs)])
        return [environments.step(actions.integers(0, 2, envs)) for _ in range(steps)]
    finally:
        environments.close()


def test_the_contract_of_cartpole() -> None:
    contract = describe("CartPole-v1")
    spaces = contract.spaces
    assert (spaces.observation_shape, spaces.observation_dtype, spaces.actions.count) == ((4,), "float32", 2)
    assert (contract.family, contract.backend, contract.episode_cap) == ("gymnasium", Backend.NATIVE, 500)
    assert (contract.frame_skip, contract.frame_stack, contract.reward_clip, contract.sticky) == (1, 1, None, 0)


def test_an_id_may_name_the_module_that_registers_it() -> None:
    contract = describe("worlds:Corridor-v0")
    assert (contract.backend, contract.spaces.observation_shape) == (Backend.SYNC, (6,))


@pytest.mark.parametrize(
    ("env", "options", "sentence"),
    [
        (
            "CartPole-v1",
            AtariOptions(sticky=0.25),
            r"CartPole-v1 takes no --sticky \(given: 0.25\): it is an option of atari env",
        ),
        ("CartPole-v1", StackOptions(frame_stack=1), "takes no --frame-stack"),
        ("Cartpol-v1", EnvOptions(), "there is no environment 'Cartpol-v1'; did you mean 'CartPole-v1'"),
        ("Hopper-v3", EnvOptions(), "^Hopper-v3 cannot be made: it has moved from Gymnasium .*; use Hopper-v5$"),
        ("Hopper-v33", EnvOptions(), "did you mean 'Hopper-v5' or 'Hopper-v4'"),
        ("CartPole-v1", EnvOptions(env_kwargs='{"render_mode": "human"}'), "opens a window for every environment"),
        ("nowhere:Corridor-v0", EnvOptions(), "nowhere:Corridor-v0: there is no module 'nowhere'"),
        (
            "Acrobot-v1",
            EnvOptions(env_backend=Backend.NATIVE),
            "no vector environment; use --env-backend sync or async",
        ),
    ],
)
def test_impossible_requests_are_refused_with_a_reason(env: str, options: EnvOptions, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        describe(env, options)


@pytest.mark.parametrize(
    ("env", "backend"),
    [
        ("CartPole-v1", Backend.NATIVE),
        ("CartPole-v1", Backend.SYNC),
        ("CartPole-v1", Backend.ASYNC),
        ("ALE/Freeway-v5", Backend.NATIVE),
    ],
)
def test_a_reset_takes_seeds_in_every_form_and_without_any_continues_those_before(env: str, backend: Backend) -> None:
    one, other = (make(env, 2, env_backend=backend) for _ in range(2))
    try:
        one.reset()
        first = one.reset(seed=3)[0]
        assert np.array_equal(first, other.reset(seed=np.array([3, 4]))[0])
        assert np.array_equal(first, one.reset(seed=np.int64(3))[0])
        following = [vector.reset()[0] for vector in (one, other)]
        assert np.array_equal(*following)
        assert not np.array_equal(first, following[0])
        with pytest.raises(ValueError, match="2 environments need as many seeds, not 1"):
            one.reset(seed=[1])
    finally:
        one.close()
        other.close()


@pytest.mark.parametrize("env", ["CartPole-v1", "ALE/Pong-v5"])
def test_seeds_have_31_bits(env: str) -> None:
    make(env, 2, seed=2**31 - 2).close()
    with pytest.raises(UsageError, match="--seed must be at most 2147483646 for 2 environments, not 2147483647"):
        make(env, 2, seed=2**31 - 1)


def test_continuous_actions_are_described() -> None:
    actions = describe("Pendulum-v1").spaces.actions
    assert (actions.is_continuous, actions.low, actions.high, actions.dtype) == (True, (-2.0,), (2.0,), "float32")


def test_an_unknown_option_gets_near_matches() -> None:
    with pytest.raises(UsageError, match="frame_skp is not an environment option; did you mean 'frame_skip'"):
        make("CartPole-v1", 2, frame_skp=4)


def test_workers_and_the_actor_play_the_same_game() -> None:
    sync, worked = (play("worlds:Corridor-v0", backend, 60) for backend in (Backend.SYNC, Backend.ASYNC))
    assert any(step.done.any() for step in sync)
    for ours, theirs in zip(sync, worked, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            assert np.array_equal(one, other)


@pytest.mark.parametrize("backend", [Backend.SYNC, Backend.ASYNC])
def test_every_environment_has_its_own_seed(backend: Backend) -> None:
    environments = Environments(describe("CartPole-v1", EnvOptions(env_backend=backend)), 3)
    one, other = environments.reset([2, 9, 2]), environments.reset([9, 2, 9])
    environments.close()
    assert np.array_equal(one[[1, 0, 1]], other)
    assert not np.array_equal(one[0], one[1])


@pytest.mark.parametrize("backend", [Backend.NATIVE, Backend.SYNC, Backend.ASYNC])
def test_the_step_after_an_episode_ends_only_resets(backend: Backend) -> None:
    """CartPole begins within ±0.05 of upright and gives 1 for every step but that of a reset."""
    played = play("CartPole-v1", backend, 80)
    ends = [(t, env) for t, step in enumerate(played[:-1]) for env in np.flatnonzero(step.done)]
    assert len(ends) >= 4
    for t, env in ends:
        assert (np.abs(played[t].observation[env]) > 0.05).any()
        assert (np.abs(played[t + 1].observation[env]) <= 0.05).all()
        assert (played[t].reward[env], played[t + 1].reward[env], played[t + 1].done[env]) == (1, 0, False)


@pytest.mark.parametrize("backend", [Backend.NATIVE, Backend.SYNC])
def test_an_episode_is_truncated_at_its_cap(backend: Backend) -> None:
    environments = Environments(describe("CartPole-v1", EnvOptions(env_backend=backend)), 2)
    observation, lengths = environments.reset([2, 4]), 0
    while True:
        step = environments.step((observation[:, 2] + observation[:, 3] > 0).astype(np.int64))  # balances
        observation, lengths = step.observation, lengths + 1
        if step.done.any():
            break
    environments.close()
    assert (lengths, step.done.all(), step.terminated.any()) == (environments.contract.episode_cap, True, False)


CONFESSION = """
import os, sys, torch, numpy
from asyncrl.common.fork_pool import prepare
from asyncrl.envs import Backend, EnvOptions, Environments, describe
prepare()
environments = Environments(describe("worlds:Confessing-v0", EnvOptions(env_backend=Backend.ASYNC)), 2)
workers = environments.reset([2, 4])
environments.close()
assert os.getpid() not in workers[:, 0] and workers[0, 0] != workers[1, 0], "not separate processes"
assert not workers[:, 1].any(), "a worker has imported what it does not need"
"""


def test_environment_workers_import_neither_torch_nor_what_only_their_parent_needs() -> None:
    """From a process that has it, and whose fork server has it too."""
    finished = subprocess.run([sys.executable, "-c", CONFESSION], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr


@pytest.mark.parametrize(
    ("env", "backend", "fault"),
    [
        ("worlds:Blind-v0", Backend.SYNC, r"Blind-v0 returned an observation that is not finite: nan at \(0,\)"),
        ("worlds:Priceless-v0", Backend.SYNC, r"Priceless-v0 returned the reward nan"),
        ("worlds:Priceless-v0", Backend.ASYNC, r"Priceless-v0 returned the reward nan"),
        (
            "worlds:Shapeless-v0",
            Backend.SYNC,
            r"returned an observation of shape \(5,\); its space has \(6,\)",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore")  # Gymnasium warns too
def test_a_bad_observation_is_a_fault_that_names_environment_step_and_seeds(env: str, backend: Backend, fault: str) -> None:
    where = r" \(in step 1 of the episode with seed 2" if backend is Backend.ASYNC else r" \(step 1, seeds 2, 4\)"
    with pytest.raises(EnvironmentFault, match=fault + where):
        play(env, backend, 3)


@pytest.mark.parametrize("backend", [Backend.SYNC, Backend.ASYNC])
@pytest.mark.filterwarnings("ignore")
def test_an_environment_that_raises_is_a_fault_with_its_own_traceback(backend: Backend) -> None:
    """Forty steps and the resets between them."""
    where = r"in step \d+ of the episode with seed \d+" if backend is Backend.ASYNC else r"step 4\d, seeds 2, 4"
    raised = rf"Failing-v0 raised RuntimeError in step: the corridor collapsed \({where}"
    with pytest.raises(EnvironmentFault, match=raised) as caught:
        play("worlds:Failing-v0", backend, 60)
    assert 'raise RuntimeError("the corridor collapsed")' in caught.value.traceback


@pytest.mark.skipif(find_spec("mujoco") is None, reason="install asyncrl[mujoco]")
def test_mujocos_warnings_are_shown_and_leave_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """MuJoCo 4 warns of a deprecated attribute in the model of HalfCheetah."""
    monkeypatch.chdir(tmp_path)
    vector = make("HalfCheetah-v5", 2, env_backend=Backend.SYNC, seed=0)
    assert capfd.readouterr() == ("", "")
    simulated: Any = vector.envs[0].unwrapped  # type: ignore[attr-defined]
    simulated.data.qvel[:] = 1e12
    simulated.do_simulation(np.zeros(6), 1)
    assert "The simulation is unstable" in capfd.readouterr().err
    assert not any(tmp_path.iterdir())
    vector.close()
