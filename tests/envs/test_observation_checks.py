"""What an environment shows is held to its space, by values and not by dtypes."""

from __future__ import annotations

import contextlib
from typing import Any

import gymnasium
import numpy as np
import pytest
from generated_spaces import observation_spaces
from gymnasium import spaces
from hypothesis import given, settings
from space_envs import Reusing

from asyncrl.envs import Environments, describe
from asyncrl.envs.observation_checks import ObservationCheck
from asyncrl.errors import EnvironmentFault


@settings(max_examples=60)
@given(observation_spaces)
def test_samples_of_a_space_pass_unchanged(space: spaces.Space) -> None:
    space.seed(1)
    check = ObservationCheck(space, "Some-v0")
    for _ in range(3):
        assert check(space.sample()) in space


@pytest.mark.parametrize(
    ("space", "value", "sentence"),
    [
        (
            spaces.Box(0, 255, (2,), np.uint8),
            np.array([7, 300], np.uint16),
            r"holds 300 at \(1,\), which uint8 cannot hold",
        ),
        (spaces.Box(0, 255, (2,), np.uint8), [-1, 3], r"holds -1 at \(0,\), which uint8 cannot hold"),
        (spaces.Box(0, 9, (1,), np.int32), [0.5], r"holds 0.5 at \(0,\), which int32 cannot hold"),
        (spaces.Box(-np.inf, np.inf, (1,), np.float64), [1e300], "which float32 cannot hold, the dtype of networks"),
        (spaces.Box(-np.inf, np.inf, (1,), np.float32), [np.inf], "is not finite"),
        (spaces.Box(-np.inf, np.inf, (1,), np.float16), np.array([np.nan], np.float16), "is not finite"),
        (
            spaces.Dict(far=spaces.Box(-1, 1, (1,), np.float64)),
            {"far": [1e300]},
            r"an observation\['far'\] that holds 1e\+300",
        ),
        (spaces.Discrete(3, start=2), 5, "that is 5; its space is"),
        (spaces.MultiDiscrete([3, 3]), np.array([3, 1]), r"that is array\(\[3, 1\]\); its space is"),
        (spaces.Dict({1: spaces.Discrete(2), "a": spaces.Discrete(2)}), {1: 0}, r"its space has the keys \[1, 'a'\]"),
    ],
)
def test_observations_outside_the_space_are_faults(space: spaces.Space, value: Any, sentence: str) -> None:
    with pytest.raises(EnvironmentFault, match=sentence):
        ObservationCheck(space, "Some-v0")(value)


@pytest.mark.parametrize(
    ("space", "value"),
    [
        (spaces.Box(0, 255, (2,), np.uint8), [7, 255]),
        (spaces.Box(0, 1, (2,), np.bool_), [0, 1]),
        (spaces.Box(0, 9, (), np.int32), 3.0),
        (spaces.Box(-1, 1, (1,), np.float32), np.array([1 / 3])),
        (spaces.MultiBinary(2), np.array([0.0, 1.0])),
    ],
)
def test_observations_are_converted_to_the_dtype_of_the_space(space: spaces.Space, value: Any) -> None:
    seen = ObservationCheck(space, "Some-v0")(value)
    assert seen in space
    assert seen == pytest.approx(np.asarray(value), rel=1e-6)


@pytest.mark.parametrize("dtype", [np.float64, np.int64])
def test_numbers_that_float32_rounds_are_reported_once(dtype: type, capsys: pytest.CaptureFixture[str]) -> None:
    space = spaces.Box(0, 2 * 10**9, (1,), dtype)
    for _ in range(2):
        check = ObservationCheck(space, f"Clock of {dtype}")
        assert [int(check(np.array([10**9 + t], dtype))[0]) for t in (0, 37)] == [10**9, 10**9 + 37]
    said = capsys.readouterr().err
    assert said.count("rounds to 1000000064") == 1
    assert "subtract an offset in the environment" in said


class Off(Reusing):
    """Shows a number too many, in an array of another dtype than its space's."""

    single_observation_space = spaces.Box(0, 255, (1,), np.uint8)

    def step(self, actions: Any) -> Any:
        seen, *others = super().step(actions)
        return (seen * 60).astype(np.uint16), *others


class Beyond(Reusing):
    """Makes a choice that there is not."""

    single_observation_space = spaces.Dict(n=spaces.Discrete(4, start=1))

    def reset(self, **how: Any) -> Any:
        seen, info = super().reset(**how)
        return {"n": seen[:, 0].astype(int) + 1}, info

    def step(self, actions: Any) -> Any:
        seen, *others = super().step(actions)
        return {"n": seen[:, 0].astype(int) + 1}, *others


for _vector in (Off, Beyond):
    _single = type("Single", (gymnasium.Env,), dict(observation_space=_vector.single_observation_space))
    _single.action_space = Reusing.single_action_space
    gymnasium.register(f"{_vector.__name__}-v0", entry_point=_single, vector_entry_point=_vector)


@pytest.mark.parametrize(
    ("env", "sentence"),
    [
        ("Off-v0", r"holds 300 at \(0, 0\), which uint8 cannot hold \(step 5, seeds 1, 2\)"),
        ("Beyond-v0", r"a part 'n' that is 5, outside the choices 1 … 4 \(step 4, seeds 1, 2\)"),
    ],
)
def test_observations_of_vector_environments_are_checked(env: str, sentence: str) -> None:
    with contextlib.closing(Environments(describe(env), 2)) as environments:
        environments.reset([1, 2])
        with pytest.raises(EnvironmentFault, match=f"{env} returned an observation.* {sentence}"):
            play(environments)


def play(environments: Environments) -> None:
    for _ in range(9):
        environments.step(np.zeros(2, int))
