"""Actions as a policy gives them and as an environment takes them, and observations as networks see them."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from generated_spaces import observation_spaces
from gymnasium import spaces
from gymnasium.vector.utils import concatenate, create_empty_array
from hypothesis import given, settings

from asyncrl.common.serialization import from_json, to_json
from asyncrl.envs.space_reading import spaces_of
from asyncrl.envs.spaces import Actions, Entry, Spaces, pack
from asyncrl.errors import UsageError
from asyncrl.networks import ActorCritic, NetworkConfig, resolve, unconvolved

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
        (spaces.Box(5.0, np.inf, (1,)), [[-1.0], [0.5], [4.0], [-2.0]], [[5.0], [6.5], [10.0], [5.0]]),
        (spaces.Box(-np.inf, -2.0, (1,)), [[-1.0], [0.5], [-4.0], [2.0]], [[-4.0], [-2.5], [-7.0], [-2.0]]),
        (spaces.Box(np.finfo(np.float32).min, np.finfo(np.float32).max, (1,)), [[0.5], [-3.0]], [[0.5], [-3.0]]),
    ],
    ids=[
        "discrete",
        "multi-discrete",
        "multi-binary",
        "bounded",
        "some unbounded",
        "no upper bound",
        "no lower bound",
        "wide",
    ],
)
def test_a_policys_actions_are_converted(space: spaces.Space, given: list, taken: list) -> None:
    action = actions_of(space).for_environment(np.array(given))
    assert action.tolist() == taken
    assert all(one in space for one in action)


@pytest.mark.parametrize(
    ("space", "words"),
    [
        (spaces.Discrete(2), "2 discrete actions"),
        (spaces.Discrete(1), "1 discrete action"),
        (spaces.MultiDiscrete([2, 3]), "actions of 2 × 3 choices"),
        (spaces.MultiBinary(9), "actions of 2 × 2 × 2 × 2 × 2 × 2 × 2 × 2 × … choices"),
        (spaces.Box(-2.0, 2.0, (1,)), "actions of 1 number within [-2, 2]"),
        (spaces.Box(-np.inf, np.inf, (3,)), "actions of 3 numbers within [-inf, inf]"),
    ],
)
def test_actions_of_every_kind_are_said_in_words(space: spaces.Space, words: str) -> None:
    assert actions_of(space).in_words == words


@pytest.mark.parametrize(
    "space",
    [spaces.Discrete(4), spaces.MultiDiscrete([[2, 3], [4, 5]]), spaces.MultiBinary(2), spaces.Box(-1.0, 3.0, (2, 2))],
)
def test_random_actions_cover_the_space(space: spaces.Space) -> None:
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
def test_valid_actions_of_a_policy(space: spaces.Space, good: list, bad: list) -> None:
    is_valid = actions_of(space).is_valid
    assert all(is_valid(np.array(action)) for action in good)
    assert not any(is_valid(np.array(action)) for action in bad)


def test_descriptions_of_actions() -> None:
    described = [spaces.Discrete(6), spaces.MultiDiscrete([2, 3]), spaces.Box(-2.0, 2.0, (3,))]
    assert [str(actions_of(space)) for space in described] == ["6", "2 × 3", "3 numbers within [-2, 2]"]


@pytest.mark.parametrize("space", [spaces.Text(3), spaces.Box(0, 255, (2,), np.uint8), spaces.Tuple([spaces.Discrete(2)])])
def test_unsupported_action_spaces_are_refused(space: spaces.Space) -> None:
    with pytest.raises(UsageError, match=r"Some-v0 has actions .*; asyncrl takes"):
        actions_of(space)


@pytest.mark.parametrize(
    ("space", "sentence"),
    [
        (spaces.Box(-1, 1, (0,)), "nothing to choose"),
        (spaces.Discrete(10_000_000), "gigabytes above 262,144, and these are 10,000,000"),
        (spaces.MultiBinary((1_000, 200)), "gigabytes above 262,144, and these are 400,000"),
        (spaces.MultiDiscrete([200_000] * 2), "these are 400,000"),
    ],
)
def test_action_spaces_with_no_or_too_many_choices_are_refused(space: spaces.Space, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        actions_of(space)


@pytest.mark.parametrize(
    "space", [spaces.MultiDiscrete([4], start=[2]), spaces.MultiDiscrete([[4]]), spaces.MultiBinary(1)]
)
def test_one_choice_counts_as_one_whatever_its_shape(space: spaces.Space) -> None:
    actions = actions_of(space)
    assert actions.count == actions.choices[0]
    taken = actions.for_environment(np.array([0, 1]))
    assert all(one in space for one in taken)
    assert actions.of_policy(taken).tolist() == [0, 1]


def test_a_number_with_equal_bounds_is_recorded_as_zero() -> None:
    actions = actions_of(spaces.Box(np.float32([-1, 2]), np.float32([1, 2])))
    assert actions.of_policy(actions.for_environment(np.float32([[0.5, -0.3]]))).tolist() == [[0.5, 0.0]]


@pytest.mark.parametrize("space", [spaces.Box(-6e4, 6e4, (2,), np.float16), spaces.Box(-3e38, 3e38, (2,))])
def test_the_largest_numbers_of_a_dtype_do_not_overflow(space: spaces.Space) -> None:
    actions = actions_of(space)
    taken = actions.for_environment(np.float32([[0.9, -1.0]]))
    assert actions.of_policy(taken)[0].tolist() == pytest.approx([0.9, -1.0], abs=1e-3)


def observed(space: spaces.Space) -> Spaces:
    return spaces_of("Some-v0", space, spaces.Discrete(2))


def batch_of(space: spaces.Space, count: int = 3) -> Any:
    space.seed(1)
    return concatenate(space, [space.sample() for _ in range(count)], create_empty_array(space, count))


@settings(max_examples=60)
@given(observation_spaces)
def test_any_observation_goes_through_a_network(space: spaces.Space) -> None:
    seen = observed(space)
    assert from_json(Spaces, to_json(seen)) == seen
    packed = pack(seen, batch_of(space), check=True)
    assert packed.shape == (3, *seen.observation_shape)
    assert packed.dtype == seen.observation_dtype
    network = ActorCritic(NetworkConfig(hidden=(4,)), seen, torch.float32, torch.Generator().manual_seed(1))
    value = network(torch.from_numpy(packed)[None], torch.zeros(3, 0)).value
    assert value.shape == (1, 3)
    assert bool(torch.isfinite(value).all())


@pytest.mark.parametrize("start", [-5, -2, 0, 3, 10_000_000])
def test_choices_are_counted_from_zero_whatever_their_start(start: int) -> None:
    (entry,) = observed(spaces.Discrete(5, start=start)).entries
    assert (entry.choices, entry.first) == (5, start)
    assert entry.of(np.arange(start, start + 5)).tolist() == [0, 1, 2, 3, 4]


def test_what_networks_cannot_see_is_named_by_its_place() -> None:
    with pytest.raises(UsageError, match=r"^Some-v0 has Text observations; asyncrl takes Box"):
        spaces_of("Some-v0", spaces.Text(3), spaces.Discrete(2))
    with pytest.raises(UsageError, match=r"^Some-v0 has Text observations in 'word'; asyncrl takes Box"):
        spaces_of("Some-v0", spaces.Dict(word=spaces.Text(3)), spaces.Discrete(2))


def test_empty_and_huge_observation_spaces_are_refused() -> None:
    with pytest.raises(UsageError, match=r"observations in .place. that are one of 10,000,000; .* describe it by numbers"):
        observed(spaces.Dict(place=spaces.Discrete(10_000_000)))
    for nothing in (spaces.Dict({}), spaces.Tuple([]), spaces.Box(0, 1, (0,)), spaces.Dict(x=spaces.Box(0, 1, (3, 0)))):
        with pytest.raises(UsageError, match="hold no number"):
            observed(nothing)
    with pytest.raises(UsageError, match="gigabytes above 262,144 in all"):
        observed(spaces.Tuple([spaces.Discrete(200_000)] * 2))
    with pytest.raises(UsageError, match=r"has the key \(1, 2\) in its observations"):
        observed(spaces.Dict([((1, 2), spaces.Discrete(2))]))


def test_every_part_is_found_by_its_own_keys() -> None:
    space = spaces.Dict({"a.b": spaces.Discrete(9), "a": spaces.Dict(b=spaces.Discrete(9)), "": spaces.Discrete(9)})
    observation = {"a.b": 1, "a": {"b": 2}, "": 3}
    values = {entry.name: entry.find(observation) for entry in observed(space).entries}
    assert values == {"'a.b'": 1, "a.b": 2, "''": 3}
    numbered = spaces.Dict({0: spaces.Discrete(9), 1: spaces.Tuple([spaces.Discrete(9)])})
    assert [entry.find({0: 5, 1: (6,)}) for entry in observed(numbered).entries] == [5, 6]


@settings(max_examples=30)
@given(observation_spaces)
def test_unpacking_inverts_packing(space: spaces.Space) -> None:
    seen, batch = observed(space), batch_of(space)
    for row, packed in enumerate(pack(seen, batch)):
        unpacked = seen.unpacked(packed)
        for entry in seen.entries:
            value = entry.find(batch)[row]
            found = unpacked[entry.name] if entry.name else unpacked
            assert np.array_equal(found, value if entry.choices else entry.of(value[None])[0])


def test_parts_saved_by_older_versions_are_found_by_name() -> None:
    saved = {"name": "camera.1", "shape": [2], "dtype": "float32", "choices": 0, "channels_last": False}
    entry = from_json(Entry, saved)
    assert entry.of([entry.find({"camera": (0, [[1.0, 2.0]])})][0]).tolist() == [[1.0, 2.0]]


BYTES, UNIT = (0, 255, np.uint8), (0, 1, np.float32)


@pytest.mark.parametrize(
    ("shape", "bounds", "kept"),
    [
        ((84, 84), BYTES, (1, 84, 84)),
        ((84, 84, 12), BYTES, (12, 84, 84)),
        ((84, 84, 3, 4), BYTES, (4, 3, 84, 84)),
        ((4, 84, 84, 3), BYTES, (4, 3, 84, 84)),
        ((3, 84, 84), BYTES, (3, 84, 84)),
        ((4, 1, 60, 80), BYTES, (4, 1, 60, 80)),
        ((84, 84, 3), UNIT, (3, 84, 84)),
        ((84, 84), (0, 1, np.float64), (1, 84, 84)),
        ((84, 84, 3), (0, 255, np.float32), (3, 84, 84)),
        ((84, 84, 3), (0, 255, np.int32), (3, 84, 84)),
        ((84, 84), (0, 1, np.bool_), (1, 84, 84)),
    ],
)
def test_images_are_convolved_with_their_height_and_width_last(shape: tuple, bounds: tuple, kept: tuple) -> None:
    space = spaces.Box(*bounds[:2], shape, bounds[2])
    seen = observed(space)
    assert seen.observation_shape == kept
    assert resolve(NetworkConfig(), seen) == "nature-cnn"
    assert unconvolved(seen) == []
    picture = np.zeros((1, *shape), bounds[2])
    rows, columns = (np.flatnonzero([n == size for n in shape])[-2:] for size in (kept[-2], kept[-1]))
    row, column = (rows[0], columns[-1]) if kept[-2] != kept[-1] else rows
    picture[(0, *[slice(5) if n == row else slice(9) if n == column else slice(None) for n in range(len(shape))])] = 1
    assert pack(seen, picture)[..., :5, :9].all()
    assert pack(seen, picture).sum() == picture.sum()


def test_the_largest_pixel_is_one_in_every_dtype() -> None:
    answers = []
    kinds = [(255, np.uint8), (255, np.float32), (1, np.float32), (1, np.bool_), (255, np.int16), (1, np.uint8)]
    for high, dtype in kinds:
        seen = observed(spaces.Box(0, high, (40, 40), dtype))
        network = ActorCritic(NetworkConfig(centered=False), seen, torch.float32, torch.Generator().manual_seed(1))
        picture = np.zeros((1, 40, 40), dtype)
        picture[:, 10:20, 10:] = high
        answers.append(float(network(torch.from_numpy(pack(seen, picture))[None], torch.zeros(1, 0)).value.detach()))
    assert answers == pytest.approx([answers[0]] * len(kinds), rel=1e-4)
    assert answers[0] != 0


@pytest.mark.parametrize(
    ("space", "sentence"),
    [
        (
            spaces.Box(-np.inf, np.inf, (84, 84, 3)),
            r"84×84×3 float32 is flattened to 21,168 numbers, .*: images are uint8, or",
        ),
        (spaces.Box(0, 255, (84, 3, 84), np.uint8), r"84×3×84 uint8 is .*as \[height, width\]"),
        (spaces.Box(0, 255, (3, 30, 30), np.uint8), "convolutions need 36×36 pixels or more"),
        (spaces.Dict(eye=spaces.Box(-1, 1, (64, 64))), "eye: 64×64 float32 is flattened to 4,096 numbers"),
    ],
)
def test_observations_that_look_like_images_but_are_not_convolved_are_reported(space: spaces.Space, sentence: str) -> None:
    (said,) = unconvolved(observed(space))
    assert re.search(sentence, said)


@pytest.mark.parametrize("space", [spaces.Box(-1, 1, (100,)), spaces.Box(0, 9, (7, 7, 3), np.uint8), spaces.Discrete(5000)])
def test_other_observations_are_not_reported(space: spaces.Space) -> None:
    assert unconvolved(observed(space)) == []
