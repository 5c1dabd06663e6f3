"""Action masks: wherever an environment gives one, its observations carry it, and a bad one is a fault."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from typing import Any

import gymnasium
import masked_envs
import numpy as np
import pytest
from gymnasium import spaces

from asyncrl.common.serialization import to_json
from asyncrl.envs import Contract, Environments, EnvOptions, contract_lines, describe, describe_all, read_contract
from asyncrl.envs.action_masks import MaskedEnv, as_mask
from asyncrl.envs.actions import Actions, actions_of
from asyncrl.envs.options import Backend
from asyncrl.envs.spaces import MaskSource
from asyncrl.errors import EnvironmentFault, UsageError

SOURCES = ["Moves", "ByMethod", "ByObservation"]


def described(name: str, backend: str = "auto", **kwargs: Any) -> Contract:
    kwargs_text = json.dumps(kwargs) if kwargs else None
    return describe(f"masked_envs:{name}", EnvOptions(env_backend=Backend(backend), env_kwargs=kwargs_text))


def played(contract: Contract, steps: int = 60, seeds: Sequence[int] = (2, 4, 6)) -> list[np.ndarray]:
    """The legal choices before each step of random legal actions, on which the environments raise if they are not."""
    random = np.random.default_rng(1)
    with contextlib.closing(Environments(contract, len(seeds))) as environments:
        environments.reset(seeds)
        seen = []
        for _ in range(steps):
            seen.append(contract.spaces.legal(environments.raw_observation))
            environments.step(contract.spaces.random_actions(random, environments.raw_observation))
        return seen


@pytest.mark.parametrize("choices", [6, [2, 3, 4]])
def test_every_source_gives_the_mask_of_the_observation_that_is_shown(choices: int | list[int]) -> None:
    seen = [played(described(name, choices=choices)) for name in SOURCES]
    assert np.array_equal(seen[0], seen[1])
    assert np.array_equal(seen[0], seen[2])
    assert 0.3 < np.mean(seen[0]) < 0.8


def test_workers_give_the_same_masks() -> None:
    assert np.array_equal(played(described("Moves", "async"), 20), played(described("Moves", "sync"), 20))


def test_vector_environments_of_other_packages_give_them_too() -> None:
    contract = describe("masked_envs:ManyMoves-v0")
    assert contract.backend is Backend.NATIVE
    assert not np.all(played(contract))


def test_a_tuple_of_masks_is_one_mask() -> None:
    assert np.array_equal(played(described("ByTuple", choices=[2, 3])), played(described("Moves", choices=[2, 3])))


@pytest.mark.parametrize(("name", "source"), [("Moves", "info['action_mask']"), ("ByMethod", "action_masks()")])
def test_the_contract_says_where_the_mask_comes_from(name: str, source: str) -> None:
    assert f"action mask         from {source}" in contract_lines(described(name))


def test_gymnasiums_taxi_has_one() -> None:
    assert describe("Taxi-v4").spaces.is_masked


def test_a_mask_can_be_ignored() -> None:
    contract = describe("masked_envs:Moves", EnvOptions(action_mask=False))
    assert not contract.spaces.is_masked
    assert str(contract.spaces) == "3 float32"
    assert "action mask         ignored, from info['action_mask']" in contract_lines(contract)
    whole = describe("masked_envs:ByObservation", EnvOptions(action_mask=False))
    assert [entry.name for entry in whole.spaces.entries] == ["action_mask", "observation"]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("TooShort", "an action mask of 5 numbers, where 6 choices need one each"),
        ("AllowsNothing", "an action mask that allows nothing"),
        ("AllowsTwo", "an action mask with the value 2"),
        ("InWords", "the action mask 'all'"),
        ("Faulty", "no action mask: info['action_mask'] is missing or None"),
    ],
)
def test_a_bad_mask_is_a_fault_that_names_the_step(name: str, sentence: str) -> None:
    with pytest.raises(EnvironmentFault, match=r"\(step 3, seeds 2") as caught:
        played(described(name, "sync"))
    assert str(caught.value).startswith(f"masked_envs:{name} returned {sentence}")


def test_a_bad_mask_in_a_worker_is_one_too() -> None:
    with pytest.raises(EnvironmentFault, match=r"^masked_envs:TooShort returned an action mask of 5 numbers.* \(in step 3"):
        played(described("TooShort", "async"))


def test_each_part_of_an_action_needs_a_choice() -> None:
    class Half(masked_envs.Moves):
        def _info(self) -> dict[str, Any]:
            return {"action_mask": np.array([1, 1, 0, 0, 0])}

    with pytest.raises(EnvironmentFault, match="allows nothing in part 1 of the action"):
        MaskedEnv(Half([2, 3]), MaskSource.INFO).reset(seed=0)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("Continuous", r"action_masks\(\), but also actions of .*, which cannot be masked"),
        ("WrongEntry", r"observation\['action_mask'\] of shape \(6,\), but 7 choices need one number each"),
    ],
)
def test_a_mask_that_cannot_fit_is_refused_with_the_way_to_ignore_it(name: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=f"{sentence}.*--no-action-mask"):
        describe(f"masked_envs:{name}")
    assert not describe(f"masked_envs:{name}", EnvOptions(action_mask=False)).spaces.is_masked


def test_a_contract_whose_mask_does_not_fit_its_actions_is_not_read() -> None:
    data = to_json(described("Moves"))
    assert read_contract(data, None) == described("Moves")
    data["spaces"]["entries"][-1]["shape"] = [5]
    data["spaces"]["observation_shape"] = [17]
    with pytest.raises(UsageError, match="the last part of an observation with an action mask"):
        read_contract(data, None)


def test_environments_of_one_agent_give_their_masks_in_the_same_place() -> None:
    with pytest.raises(UsageError, match=r"Moves has info\['action_mask'\], masked_envs:ByMethod has action_masks\(\)"):
        describe_all(["masked_envs:Moves", "masked_envs:ByMethod"])


def test_a_forbidden_action_is_refused_before_the_environment_sees_it() -> None:
    contract = described("Moves")
    with contextlib.closing(Environments(contract, 1)) as environments:
        environments.reset([2])
        forbidden = np.flatnonzero(~contract.spaces.legal(environments.raw_observation)[0])[:1]
        with pytest.raises(UsageError, match=f"the action {forbidden[0]} was chosen in step 1"):
            environments.step(forbidden)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([1, 0, True, 0, 1.0], [1, 0, 1, 0, 1]),
        (np.array([[1, 1, 1, 0, 0]], bool), [1, 1, 1, 0, 0]),
        ((np.array([0, 1]), np.array([1, 0, 0])), [0, 1, 1, 0, 0]),
    ],
)
def test_masks_come_in_several_forms(value: Any, expected: list[int]) -> None:
    assert as_mask(actions_of("it", spaces.MultiDiscrete([2, 3])), value).tolist() == expected


def test_parts_in_the_wrong_order_are_not_taken() -> None:
    with pytest.raises(ValueError, match=r"masks of \(3, 2\) numbers"):
        as_mask(Actions((2, 3), (0, 0), shape=(2,)), (np.ones(3), np.ones(2)))


def test_an_environment_that_cannot_be_reset_has_no_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its failure is the run's to report."""

    class Broken(masked_envs.Moves):
        def reset(self, **how: Any) -> Any:
            raise RuntimeError("not yet")

    gymnasium.register("Broken-v0", entry_point=Broken)
    assert not describe("Broken-v0").spaces.is_masked
