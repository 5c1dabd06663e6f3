"""--standardize: the learner sees the actor's numbers, or the option is refused."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
import torch

from asyncrl.acting.actor import Actor
from asyncrl.api import configure
from asyncrl.envs import EnvOptions, describe
from asyncrl.errors import UsageError
from asyncrl.experience.rollout import Ticket
from asyncrl.runs.components import actor_spec
from asyncrl.runs.config.resolution import resolve

MEASURED = EnvOptions(standardize=400)


@pytest.mark.parametrize(
    "env",
    [
        'space_envs:SpaceEnv {"kind": "bool"}',
        'space_envs:SpaceEnv {"kind": "int64"}',
        'space_envs:SpaceEnv {"kind": "keys"}',
        'space_envs:SpaceEnv {"kind": "negative"}',
        'space_envs:SpaceEnv {"kind": "gray"}',
        'space_envs:SpaceEnv {"kind": "float image"}',
        'space_envs:SpaceEnv {"kind": "one choice"}',
        'space_envs:SpaceEnv {"kind": "one bit"}',
    ],
)
def test_observations_that_are_not_floating_point_numbers_cannot_be_standardized(env: str) -> None:
    name, kwargs = env.split(" ", 1)
    with pytest.raises(UsageError, match=r"--standardize needs observations that are one array of floating-point numbers"):
        describe(name, EnvOptions(standardize=400, env_kwargs=kwargs))


@pytest.mark.parametrize("kind", ["scalar", "float16", "uint16", "float64"])
def test_learner_and_actor_see_the_same_standardized_numbers(kind: str) -> None:
    options = dict(standardize=400, env_kwargs=f'{{"kind": "{kind}"}}')
    contract = describe("space_envs:SpaceEnv", EnvOptions(**options))
    config = resolve(configure("space_envs:SpaceEnv", "a3c", actors=1, envs_per_actor=4, **options), contract)
    spec, acted_on = actor_spec(config, contract), []
    slot = spec.layout().slot(torch.zeros(spec.layout().nbytes, dtype=torch.uint8), 0)
    with contextlib.closing(Actor(spec, 0)) as actor:
        act = actor.policy.act
        actor.policy.act = lambda seen, *rest: (acted_on.append(seen.clone()), act(seen, *rest))[1]
        actor.collect(Ticket(0, 0, 0, 0, 0), slot)
    assert torch.equal(slot.frames[: len(acted_on)], torch.stack(acted_on))
    assert float(slot.frames.abs().mean()) == pytest.approx(0.9, abs=0.3), "standardized: neither 0 … 1000 nor 0 … 1"


def test_a_number_that_never_changed_keeps_its_scale() -> None:
    contract = describe("space_envs:Flag", MEASURED)
    raised = contract.standardized(np.float32([[0.0, 1.0]]))
    assert raised[0, 1] == 1.0
    assert 0.4 < contract.observation_spread[0] < 0.8


def test_a_reused_observation_array_is_measured_at_every_step() -> None:
    contract = describe("space_envs:Reusing-v0", MEASURED)
    assert contract.observation_mean == pytest.approx((24.5,))
    assert contract.observation_spread == pytest.approx((np.arange(50).std(),), abs=1e-5)
