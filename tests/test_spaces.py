"""Actions as a policy gives them and as an environment takes them."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium import spaces

from asyncrl.errors import UsageError
from asyncrl.spaces import Actions, spaces_of

SEEN = spaces.Box(0.0, 1.0, (3,), np.float32)


def actions_of(space: spaces.Space) -> Actions:
    return spaces_of("Some-v0", SEEN, space).actions


@pytest.mark.parametrize(
    ("space", "given", "taken"),
    [
        (spaces.Discrete(3, start=5), [0, 2], [5, 7]),
        (spaces.MultiDiscrete([2, 3], start=[1, -1]), [[0, 2], [1, 0]], [[1, 1], [2, -1]]),
        (spaces.MultiBinary(3), [[0, 1, 1]], [[0, 1, 1]]),
        (spaces.Box(-2.0, 2.0, (1,)), [[0.5], [-3.0]], [[1.0], [-2.0]]),
        (spaces.Box(np.array([0.0, -np.inf], np.float32), np.array([1.0, np.inf], np.float32)), [[0.0, 7.0]], [[0.5, 7.0]]),
    ],
    ids=["discrete", "multi-discrete", "multi-binary", "bounded", "half unbounded"],
)
def test_a_policys_actions_become_the_environments(space: spaces.Space, given: list, taken: list) -> None:
    action = actions_of(space).for_environment(np.array(given))
    assert action.tolist() == taken
    assert all(one in space for one in action)


@pytest.mark.parametrize(
    "space",
    [spaces.Discrete(4), spaces.MultiDiscrete([[2, 3], [4, 5]]), spaces.MultiBinary(2), spaces.Box(-1.0, 3.0, (2, 2))],
)
def test_random_actions_are_of_the_space_and_reach_all_of_it(space: spaces.Space) -> None:
    actions = actions_of(space)
    drawn = actions.random(np.random.default_rng(1), 300)
    assert drawn.shape == (300, *actions.policy_shape)
    taken = actions.for_environment(drawn)
    assert all(one in space for one in taken)
    assert len(np.unique(taken.reshape(300, -1), axis=0)) > min(100, np.prod(actions.choices or (1000,)) * 0.8)


@pytest.mark.parametrize(
    ("space", "good", "bad"),
    [
        (spaces.Discrete(3, start=5), [0, 2], [-1, 3, [1]]),
        (spaces.MultiDiscrete([2, 3]), [[0, 2], [1, 0]], [[0, 3], [2, 0], [0], 1]),
        (spaces.Box(-2.0, 2.0, (2,)), [[-1.0, 0.5], [0.0, 3.0]], [[0.0], [0.0, np.nan], 0.0]),
    ],
    ids=["discrete", "multi-discrete", "numbers"],
)
def test_what_is_an_action_of_a_policy(space: spaces.Space, good: list, bad: list) -> None:
    permit = actions_of(space).permit
    assert all(permit(np.array(action)) for action in good)
    assert not any(permit(np.array(action)) for action in bad)


def test_actions_are_described_as_a_person_counts_them() -> None:
    described = [spaces.Discrete(6), spaces.MultiDiscrete([2, 3]), spaces.Box(-2.0, 2.0, (3,))]
    assert [str(actions_of(space)) for space in described] == ["6", "2 × 3", "3 numbers within [-2, 2]"]


@pytest.mark.parametrize("space", [spaces.Text(3), spaces.Box(0, 255, (2,), np.uint8), spaces.Tuple([spaces.Discrete(2)])])
def test_what_no_algorithm_can_do_is_refused(space: spaces.Space) -> None:
    with pytest.raises(UsageError, match=r"Some-v0 has actions .*; asyncrl takes"):
        actions_of(space)
