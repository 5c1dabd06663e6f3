"""Multi-step errors against their definition as forward sums from every step."""

from __future__ import annotations

from typing import NamedTuple

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from asyncrl.algorithms import returns
from asyncrl.algorithms.returns import masked_mean, multistep_errors, normalize

GOES_ON, LIFE_LOST, TERMINATED, TRUNCATED = range(4)
numbers = st.floats(-10, 10, width=32)


class Column(NamedTuple):
    """What multistep_errors takes of one environment, and where its episodes end."""

    reward: list[float]
    discount: list[float]
    value: list[float]
    valid: list[bool]
    done: list[bool]
    trace: list[float]
    weight: list[float]

    def tensors(self) -> list[Tensor]:
        """[T, 1] each: reward, discount, value, valid."""
        return [torch.tensor(x)[:, None] for x in self[:4]]


@st.composite
def columns(draw: st.DrawFn) -> Column:
    """Next-step autoreset: the step after an episode's last one only resets, and what it holds means nothing."""
    steps = draw(st.integers(1, 8))

    def draws(strategy: st.SearchStrategy[float], count: int) -> list[float]:
        return draw(st.lists(strategy, min_size=count, max_size=count))

    kinds = draws(st.sampled_from([GOES_ON, GOES_ON, LIFE_LOST, TERMINATED, TRUNCATED]), steps)
    reset = [draw(st.booleans())]
    for t in range(steps):
        reset.append(not reset[t] and kinds[t] in (TERMINATED, TRUNCATED))
    gamma = draw(st.floats(0, 1, width=32))
    worthless = [not reset[t] and kinds[t] in (LIFE_LOST, TERMINATED) for t in range(steps)]
    return Column(
        reward=draws(numbers, steps),
        discount=[0.0 if w else gamma for w in worthless],
        value=draws(numbers, steps + 1),
        valid=[not r for r in reset[:-1]],
        done=reset[1:],
        trace=draws(st.floats(0, 1, width=32), steps),
        weight=draws(st.floats(0, 2, width=32), steps),
    )


def error_by_definition(c: Column, start: int, *, weighted: bool) -> float:
    """Σ_k (Π_{start≤j<k} γ_j·c_j)·w_k·δ_k over the steps from `start` to the episode's or the rollout's last."""
    total, factor = 0.0, 1.0
    for k in range(start, len(c.reward)):
        delta = c.reward[k] + c.discount[k] * c.value[k + 1] - c.value[k]
        total += factor * delta * (c.weight[k] if weighted else 1.0)
        factor *= c.discount[k] * (c.trace[k] if weighted else 1.0)
        if c.done[k]:
            break
    return total


def return_by_definition(c: Column, start: int) -> float:
    """Discounted rewards up to the episode's or the rollout's last step, and there the discounted value."""
    total, factor = 0.0, 1.0
    for k in range(start, len(c.reward)):
        total += factor * c.reward[k]
        factor *= c.discount[k]
        if c.done[k]:
            break
    return total + factor * c.value[k + 1]


@given(columns())
def test_the_default_is_the_n_step_return(column: Column) -> None:
    errors = multistep_errors(*column.tensors())[:, 0]
    for t, valid in enumerate(column.valid):
        if valid:
            assert abs(errors[t] + column.value[t] - return_by_definition(column, t)) < 1e-3


@given(columns())
def test_traces_and_weights_follow_the_definition(column: Column) -> None:
    trace, weight = torch.tensor(column.trace)[:, None], torch.tensor(column.weight)[:, None]
    errors = multistep_errors(*column.tensors(), trace, weight)[:, 0]
    for t, valid in enumerate(column.valid):
        assert abs(errors[t] - (error_by_definition(column, t, weighted=True) if valid else 0.0)) < 1e-3


@given(st.lists(columns(), min_size=2, max_size=3))
def test_environments_do_not_mix(several: list[Column]) -> None:
    steps = min(len(c.reward) for c in several)
    cut = [[x[: steps + (i == 2)] for i, x in enumerate(c.tensors())] for c in several]
    together = multistep_errors(*(torch.cat(parts, 1) for parts in zip(*cut, strict=True)))
    assert torch.equal(together, torch.cat([multistep_errors(*alone) for alone in cut], 1))


def example(discount: list[float], valid: list[bool], **changed: float) -> Tensor:
    """Rewards 1, 2, 3 and values 10, 20, 30, 40, but for `changed`, as in r1=5."""
    reward, value = [1.0, 2.0, 3.0], [10.0, 20.0, 30.0, 40.0]
    for name, x in changed.items():
        {"r": reward, "v": value}[name[0]][int(name[1:])] = x
    arrays = [torch.tensor(x)[:, None] for x in (reward, discount, value, valid)]
    return multistep_errors(*arrays)[:, 0]


def test_a_terminated_step_cuts_the_return() -> None:
    assert example([0.5, 0, 0.5], [True, True, False])[:2].tolist() == [1 + 0.5 * 2 - 10, 2 - 20]


def test_a_truncated_step_bootstraps_from_the_episodes_last_observation() -> None:
    assert example([0.5, 0.5, 0.5], [True, False, True])[0] == 1 + 0.5 * 20 - 10


def test_a_reset_step_has_error_0_and_separates_episodes() -> None:
    before = example([0.5, 0.5, 0.5], [True, False, True])
    after = example([0.5, 0.5, 0.5], [True, False, True], r1=1e9, r2=1e9, v2=1e9, v3=1e9)
    assert before[1] == after[1] == 0
    assert before[0] == after[0]


def test_a_trace_of_lambda_is_generalised_advantage_estimation() -> None:
    """Schulman et al. 2016, equation 16: Σ_l (γλ)^l·δ_{t+l}, here γ = 0.9, λ = 0.8, two steps."""
    reward, value = torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0], [4.0], [5.0]])
    errors = multistep_errors(reward, torch.full((2, 1), 0.9), value, torch.ones(2, 1, dtype=torch.bool), trace=0.8)
    deltas = 1 + 0.9 * 4 - 3, 2 + 0.9 * 5 - 4
    assert torch.allclose(errors[:, 0], torch.tensor([deltas[0] + 0.72 * deltas[1], deltas[1]]))


def test_a_trace_of_zero_is_the_one_step_error() -> None:
    reward, value = torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0], [4.0], [5.0]])
    errors = multistep_errors(reward, torch.full((2, 1), 0.9), value, torch.ones(2, 1, dtype=torch.bool), trace=0.0)
    assert torch.allclose(errors[:, 0], torch.tensor([1 + 0.9 * 4 - 3, 2 + 0.9 * 5 - 4]))


def test_a_masked_mean_ignores_invalid_steps() -> None:
    x, valid = torch.tensor([[1.0, torch.nan], [3.0, torch.inf]]), torch.tensor([[True, False], [True, False]])
    assert masked_mean(x, valid) == 2


def test_a_masked_mean_without_valid_steps_is_0() -> None:
    assert masked_mean(torch.ones(2, 1), torch.zeros(2, 1, dtype=torch.bool)) == 0


@given(st.integers(1, 20), st.integers(1, 9), st.integers(0, 10**6), st.booleans())
def test_numpy_sums_errors_back_as_torch_does(steps: int, envs: int, seed: int, diverged: bool) -> None:
    random = torch.Generator().manual_seed(seed)
    delta, decay = (torch.randn(steps, envs, generator=random) for _ in range(2))
    valid = torch.rand(steps, envs, generator=random) < 0.8
    if diverged and steps > 1:
        delta[0, 0], delta[-1, -1], decay[1, 0] = torch.nan, torch.inf, 3e38
    expected = returns._summed_back(delta, decay, valid)
    assert returns._summed_back_on_cpu(delta, decay, valid).numpy().tobytes() == expected.numpy().tobytes()


def test_a_mean_notices_that_other_steps_are_valid() -> None:
    x, valid = torch.tensor([[1.0, 3.0]]), torch.tensor([[True, True]])
    assert float(masked_mean(x, valid)) == float(masked_mean(x, valid)) == 2.0
    valid[0, 1] = False
    assert float(masked_mean(x, valid)) == 1.0
    assert float(masked_mean(x, torch.tensor([[False, True]]))) == 3.0
    assert float(masked_mean(x, torch.zeros(1, 2, dtype=torch.bool))) == 0.0


@given(st.floats(-1e4, 1e4, width=32), st.integers(1, 16), st.integers(1, 8))
def test_equal_numbers_are_normalized_to_zero(number: float, steps: int, envs: int) -> None:
    assert not normalize(torch.full((steps, envs), number), torch.ones(steps, envs, dtype=torch.bool)).any()


def test_numbers_that_are_not_finite_are_not_hidden() -> None:
    valid = torch.ones(2, 2, dtype=torch.bool)
    assert normalize(torch.tensor([[1.0, 2.0], [3.0, torch.nan]]), valid).isnan().all()
