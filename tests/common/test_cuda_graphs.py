"""CUDA graphs need a GPU (benchmarks/gpu/run.sh compares them there); here a stand-in computes again on the same memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from algorithm_worlds import world_of
from torch import Tensor

from asyncrl.algorithms import ALGORITHMS
from asyncrl.common.cuda_graphs import Captured, Launch, tensors_in
from asyncrl.launch import start
from asyncrl.learner import Learner
from asyncrl.runs.config import RunConfig
from asyncrl.runs.settings import configure


class Pair(NamedTuple):
    first: Tensor
    second: dict[str, Tensor]


@dataclass(frozen=True)
class Several:
    name: str
    pair: Pair
    more: tuple[Tensor, ...]


def recomputed(function: Callable[[], Any]) -> tuple[Launch, Any]:
    """What a CUDA graph does: compute from the same tensors as in the first call, into those that it returned."""
    result = function()

    def launch() -> None:
        for own, new in zip(tensors_in(result), tensors_in(function()), strict=True):
            own.copy_(new)

    return launch, result


def several(*values: float) -> Several:
    a, b, c = (torch.tensor([value, value + 1]) for value in values)
    return Several("some", Pair(a, {"b": b}), (c,))


def test_results_are_those_of_the_function_for_every_argument_of_a_shape() -> None:
    def function(given: Several) -> Pair:
        return Pair(given.pair.first + given.more[0], {"product": given.pair.second["b"] * 2})

    captured = Captured(function, "cpu", recomputed)
    for values in ((1.0, 2.0, 3.0), (4.0, 5.0, 6.0), (-1.0, 0.5, 8.0)):
        found, expected = captured(several(*values)), function(several(*values))
        assert torch.equal(found.first, expected.first)
        assert torch.equal(found.second["product"], expected.second["product"])


def test_each_shape_is_captured_in_its_second_call_and_results_last_until_the_next() -> None:
    captures: list[object] = []

    def counted(function: Callable[[], Tensor]) -> tuple[Launch, Tensor]:
        captures.append(function)
        return recomputed(function)

    doubled = Captured(lambda x: 2 * x, "cpu", counted)
    for shape in (2, 3):
        assert doubled(torch.ones(shape)).tolist() == [2] * shape
        second = doubled(torch.full((shape,), 5.0))
        assert second.tolist() == [10] * shape
        doubled(torch.full((shape,), 3.0))
        assert second.tolist() == [6] * shape
    assert doubled(torch.zeros(2)).tolist() == [0, 0]
    assert len(captures) == 2


def test_without_a_capture_the_function_is_called_every_time() -> None:
    doubled = Captured(lambda x: 2 * x, "cpu", None)
    results = [doubled(torch.full((2,), value)) for value in (1.0, 2.0, 3.0)]
    assert [result.tolist() for result in results] == [[2, 2], [4, 4], [6, 6]]


MEMORY = dict(capacity=400, batch_size=8, replay_ratio=0.5, learning_starts=100, target_every=100)
SHUFFLED = dict(t_max=8, epochs=2, minibatches=3)
OWN = {"dqn": MEMORY, "c51": MEMORY, "qr-dqn": MEMORY, "ppo": SHUFFLED, "pqn": SHUFFLED}
CAPTURABLE = sorted(name for name, algorithm in ALGORITHMS.items() if algorithm.is_capturable)


def test_losses_that_draw_random_numbers_or_have_a_new_shape_each_time_are_not_captured() -> None:
    assert set(ALGORITHMS) - set(CAPTURABLE) == {"actor-critic", "iqn", "random", "reinforce", "sac", "td3"}


@pytest.mark.parametrize(
    ("algorithm", "more"),
    [
        *((name, {}) for name in CAPTURABLE),
        ("a3c", dict(recurrent="lstm", recurrent_size=8)),
        ("ppo", dict(max_kl=1e-4)),
        ("dqn", dict(double=True, dueling=True, noisy=True, prioritized=True, n_step=3)),
        ("dqn", dict(recurrent="gru", recurrent_size=8, sequence_length=3, burn_in=1)),
    ],
)
def test_captured_gradients_train_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, algorithm: str, more: dict[str, Any]
) -> None:
    settings = dict(steps=480, actors=2, envs_per_actor=4, lag=1, seed=3, engine="serial", eval_episodes=0)
    config = configure(world_of(algorithm), algorithm, **{**settings, **OWN.get(algorithm, {}), **more})
    plain = weights_after(config, tmp_path / "plain")
    construct, learners = Learner.__init__, []

    def construct_capturing(learner: Learner, **arguments: Any) -> None:
        construct(learner, **arguments)
        learner._captured = Captured(learner._loss_and_gradient, "cpu", recomputed)
        learners.append(learner)

    monkeypatch.setattr(Learner, "__init__", construct_capturing)
    assert weights_after(config, tmp_path / "captured") == plain
    assert learners[0]._captured._graphs, "nothing was captured"


def weights_after(config: RunConfig, folder: Path) -> str:
    """The hash of the final weights of a run."""
    run, _ = start(config, folder)
    return str(json.loads((run.marked("latest") / "manifest.json").read_text())["weights_sha256"])
