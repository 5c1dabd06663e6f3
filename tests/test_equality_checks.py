"""`asyncrl.testing`: what holds passes, and what does not is named."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import own_algorithms
import own_networks
import pytest

from asyncrl.algorithms import Loss
from asyncrl.testing import check_lockstep, check_resume

CALLS = itertools.count(1)


@dataclass(frozen=True)
class Impure(own_algorithms.Plain):
    """Its loss depends on how often this process has computed one."""

    def loss(self, network: Any, target: Any, batch: Any) -> Loss:
        loss = super().loss(network, target, batch)
        return loss._replace(total=next(CALLS) * loss.total)


@dataclass(frozen=True)
class Idle(own_algorithms.Plain):
    """Its loss is zero."""

    def loss(self, network: Any, target: Any, batch: Any) -> Loss:
        loss = super().loss(network, target, batch)
        return loss._replace(total=0 * loss.total)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("algorithm", "settings"),
    [
        (own_algorithms.Plain, {}),
        (own_algorithms.Replaying, dict(steps=400, capacity=240, learning_starts=100, batch_size=8, replay_ratio=0.1)),
    ],
)
def test_an_algorithm_of_ones_own_is_the_same_on_every_engine_and_after_an_interruption(
    algorithm: Any, settings: dict[str, Any]
) -> None:
    uninterrupted = check_lockstep("CartPole-v1", algorithm, network=own_networks.Encoder, **settings)
    resumed = check_resume("CartPole-v1", algorithm, network=own_networks.Encoder, engines=["serial"], **settings)
    assert all(tensor.equal(resumed[name]) for name, tensor in uninterrupted.items())


@pytest.mark.parametrize("check", [check_lockstep, check_resume])
def test_the_parameter_that_differs_is_named(check: Any) -> None:
    differs = r"serial.* different weights: body\.encoder\S+ differs in [\d,]+ of [\d,]+ numbers"
    with pytest.raises(AssertionError, match=differs):
        check("CartPole-v1", Impure, engines=["serial", "threads"])


def test_a_run_that_proves_nothing_does_not_pass() -> None:
    with pytest.raises(AssertionError, match="nothing was learned"):
        check_lockstep("CartPole-v1", Idle, engines=["serial"])
    with pytest.raises(AssertionError, match="raise steps"):
        check_lockstep("CartPole-v1", "a3c", steps=8, engines=["serial"])
