"""Captured functions compute what the functions do.

CUDA graphs need a GPU (benchmarks/gpu/run.sh compares them there); here a stand-in computes again on the same memory.
"""

from __future__ import annotations

import functools
import itertools
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from algorithm_worlds import world_of
from torch import Tensor

from asyncrl.algorithms import ALGORITHMS
from asyncrl.common.capture import Capture, Captured, CaptureError, map_tensors, tensors_in
from asyncrl.common.recorded import recorded
from asyncrl.gradients import Gradients
from asyncrl.launch import start
from asyncrl.runs.config.run_config import RunConfig
from asyncrl.runs.config.settings import configure


class Pair(NamedTuple):
    first: Tensor
    second: dict[str, Tensor]


@dataclass(frozen=True)
class Several:
    name: str
    pair: Pair
    more: tuple[Tensor, ...]


def recomputed(function: Callable[[Any], Any], argument: Any) -> Callable[[Any], Any]:
    """What a CUDA graph does: compute from the same tensors as in the first call, into those that it returned."""
    own = map_tensors(argument, torch.clone)
    result = function(own)

    def launch(argument: Any) -> Any:
        for x, given in zip(tensors_in(own), tensors_in(argument), strict=True):
            x.copy_(given)
        for x, new in zip(tensors_in(result), tensors_in(function(own)), strict=True):
            x.copy_(new)
        return result

    return launch


def several(*values: float) -> Several:
    a, b, c = (torch.tensor([value, value + 1]) for value in values)
    return Several("some", Pair(a, {"b": b}), (c,))


def test_results_are_those_of_the_function_for_every_argument_of_a_shape() -> None:
    def function(given: Several) -> Pair:
        return Pair(given.pair.first + given.more[0], {"product": given.pair.second["b"] * 2})

    captured = Captured(function, recomputed)
    for values in ((1.0, 2.0, 3.0), (4.0, 5.0, 6.0), (-1.0, 0.5, 8.0)):
        found, expected = captured(several(*values)), function(several(*values))
        assert torch.equal(found.first, expected.first)
        assert torch.equal(found.second["product"], expected.second["product"])


def test_each_shape_is_captured_in_its_second_call_and_results_last_until_the_next() -> None:
    captures: list[object] = []

    def counted(function: Callable[[Tensor], Tensor], argument: Tensor) -> Callable[[Tensor], Tensor]:
        captures.append(function)
        return recomputed(function, argument)

    doubled = Captured(lambda x: 2 * x, counted)
    for shape in (2, 3):
        assert doubled(torch.ones(shape)).tolist() == [2] * shape
        second = doubled(torch.full((shape,), 5.0))
        assert second.tolist() == [10] * shape
        doubled(torch.full((shape,), 3.0))
        assert second.tolist() == [6] * shape
    assert doubled(torch.zeros(2)).tolist() == [0, 0]
    assert len(captures) == 2


def test_without_a_capture_the_function_is_called_every_time() -> None:
    doubled = Captured(lambda x: 2 * x, None)
    results = [doubled(torch.full((2,), value)) for value in (1.0, 2.0, 3.0)]
    assert [result.tolist() for result in results] == [[2, 2], [4, 4], [6, 6]]


MEMORY = dict(capacity=400, batch_size=8, replay_ratio=0.2, learning_starts=100)
COPIES = dict(**MEMORY, target_every=100)
SHUFFLED = dict(t_max=8, epochs=2, minibatches=3)
OWN = {
    "dqn": COPIES,
    "c51": COPIES,
    "qr-dqn": COPIES,
    "iqn": COPIES,
    "sac": MEMORY,
    "sac-discrete": MEMORY,
    "td3": MEMORY,
    "ppo": SHUFFLED,
    "pqn": SHUFFLED,
}
CAPTURABLE = sorted(name for name, algorithm in ALGORITHMS.items() if algorithm.is_capturable)
CASES: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in CAPTURABLE),
    ("a3c", dict(recurrent="lstm", recurrent_size=8)),
    ("a3c", dict(gradient_clipping="tensor")),
    ("ppo", dict(max_kl=1e-4)),
    ("ppo", dict(normalize_observation=True, normalize_return=True)),
    ("dqn", dict(double=True, dueling=True, noisy=True, prioritized=True, n_step=3)),
    ("dqn", dict(recurrent="gru", recurrent_size=8, sequence_length=3, burn_in=1)),
    ("iqn", dict(munchausen=True)),
    ("a3c", dict(env="ALE/Pong-v5", actors=1, envs_per_actor=2, steps=60)),
    ("sac", dict(network="own_networks:Encoder")),
]


def test_losses_that_differ_from_update_to_update_or_always_have_new_shapes_are_not_captured() -> None:
    assert set(ALGORITHMS) - set(CAPTURABLE) == {"actor-critic", "random", "reinforce"}


@pytest.mark.parametrize(
    ("capture", "algorithm", "more"),
    [
        *((recorded, name, more) for name, more in CASES),
        *((recomputed, name, more) for name, more in CASES if not ALGORITHMS[name].draws_in_loss),
    ],
)
def test_captured_gradients_train_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capture: Capture, algorithm: str, more: dict[str, Any]
) -> None:
    settings = dict(steps=240, actors=2, envs_per_actor=4, lag=1, seed=3, engine="serial", eval_episodes=0)
    asked = {"env": world_of(algorithm), **settings, **OWN.get(algorithm, {}), **more}
    config = configure(asked.pop("env"), algorithm, **asked)
    captures: list[Any] = []

    def counted(function: Callable[[Any], Any], argument: Any) -> Callable[[Any], Any]:
        captures.append(capture(function, argument))
        return captures[-1]  # type: ignore[no-any-return]

    def capturing(gradients: Gradients) -> Captured[Any, Any]:
        return Captured(gradients._loss_and_gradient, counted, kind=gradients._algorithm.is_delayed)

    monkeypatch.setattr(Gradients, "_capture", capturing)
    assert weights_after(config, tmp_path / "captured") == plain_weights(config)
    assert captures, "nothing was captured"
    if capture is recorded:
        assert any(x.is_in_use for x in captures), "what was recorded differs"


@functools.cache
def plain_weights(config: RunConfig) -> str:
    """The hash of the final weights of a run that captures nothing."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(Gradients, "_capture", lambda gradients: None)
        return weights_after(config, Path(folder) / "plain")


def weights_after(config: RunConfig, folder: Path) -> str:
    """The hash of the final weights of a run."""
    run, _ = start(config, folder)
    return str(json.loads((run.marked("latest") / "manifest.json").read_text())["weights_sha256"])


def test_what_is_recorded_draws_the_same_random_numbers() -> None:
    def noisy(given: tuple[Tensor, torch.Generator]) -> Tensor:
        return given[0] + torch.randn(3, generator=given[1]) * torch.rand(3, generator=given[1])

    captured, plain = Captured(noisy, recorded), torch.Generator().manual_seed(1)
    random = torch.Generator().manual_seed(1)
    for value in range(8):
        x = torch.full((3,), float(value))
        assert torch.equal(captured((x, random)), noisy((x, plain)))


def test_tensors_that_the_function_changes_are_changed_when_it_is_recorded() -> None:
    total = torch.zeros(4)
    halves = total[:2], total[2:]

    def write(x: Tensor) -> Tensor:
        halves[0].copy_(x)
        halves[1].copy_(2 * x)
        return total.mul_(10).sum()

    captured = Captured(write, recorded)
    for value in range(1, 9):
        assert captured(torch.full((2,), float(value))) == 60 * value
        assert total.tolist() == [10 * value] * 2 + [20 * value] * 2


def _looks_at_a_number(x: Tensor) -> Tensor:
    return 2 * x if float(x.sum()) > 0 else -x


def _draws_globally(x: Tensor) -> Tensor:
    return x + torch.rand(2) * 0


def _draws_from_another_generator(x: Tensor) -> Tensor:
    return x + torch.rand(2, generator=torch.Generator()) * 0


def _looks_at_an_array(x: Tensor) -> Tensor:
    return x * float(np.asarray(x)[0])


def _looks_at_a_list(x: Tensor) -> Tensor:
    return x * x.tolist()[0]


def _selects(x: Tensor) -> Tensor:
    return x[x > 0].sum()


@pytest.mark.parametrize(
    "function",
    [_selects, _looks_at_a_number, _looks_at_an_array, _looks_at_a_list, _draws_globally, _draws_from_another_generator],
)
def test_a_function_that_may_differ_from_call_to_call_is_not_recorded(function: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(CaptureError):
        recorded(function, torch.ones(2))
    captured = Captured(function, recorded)
    for value in (1.0, 2.0, 3.0, -4.0):
        x = torch.full((2,), value)
        assert torch.equal(captured(x), function(x))


def test_a_tensor_that_is_in_the_argument_twice_may_be_two_tensors_later() -> None:
    def difference(pair: tuple[Tensor, Tensor]) -> Tensor:
        return pair[0] - pair[1]

    captured, x = Captured(difference, recorded), torch.ones(2)
    for pair in ((x, x), (x, x), (x, 3 * x), (2 * x, x)):
        assert torch.equal(captured(pair), difference(pair))


def test_a_recording_that_differs_from_the_function_in_its_first_calls_is_not_used() -> None:
    calls = itertools.count()

    def counting(x: Tensor) -> Tensor:
        return x + next(calls)

    captured = Captured(counting, recorded)
    results = [float(captured(torch.zeros(()))) for _ in range(5)]
    assert results == [0, 3, 4, 5, 6]  # 1 and 2 were added while the operations were recorded and checked
