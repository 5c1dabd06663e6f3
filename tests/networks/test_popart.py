"""Statistics inside networks: PopArt's rescaling, and parameters that are not learned."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from asyncrl.envs.spaces import Actions, Spaces
from asyncrl.networks import ActorCritic, NetworkConfig, PopArt, bind, copy_into, learned_part

positive = st.floats(1e-2, 1e4)
anywhere = st.floats(-1e4, 1e4)


@given(st.lists(st.tuples(anywhere, positive), min_size=1, max_size=5))
def test_new_statistics_leave_values_as_they_are(changes: list[tuple[float, float]]) -> None:
    torch.manual_seed(1)
    head, features = PopArt(7), torch.randn(20, 7)
    before, unit = head(features), 1.0
    for count, (mean, spread) in enumerate(changes):
        head.rescale(count, torch.tensor(mean), torch.tensor(spread))
        unit = max(unit, abs(mean), spread)  # of the largest number that was added on the way
    assert torch.allclose(head(features), before, rtol=1e-4, atol=1e-5 * unit)


def test_a_gradient_step_is_taken_in_standardized_units() -> None:
    """Against a linear head of standardized values, whose outputs are converted by hand."""
    head, features, targets = PopArt(3), torch.randn(8, 3), torch.randn(8, 1) * 50 + 200
    head.statistics.assign(1, torch.tensor(200.0), torch.tensor(50.0))
    weight, bias = (x.detach().clone().requires_grad_() for x in (head.weight, head.bias))
    ((targets - head(features)) / 50).square().mean().backward()
    ((targets - 200) / 50 - (features @ weight.T + bias)).square().mean().backward()
    assert torch.allclose(head.weight.grad, weight.grad, atol=1e-5)
    assert torch.allclose(head.bias.grad, bias.grad, atol=1e-5)


def test_statistics_are_weights_that_are_not_learned() -> None:
    config = NetworkConfig(hidden=(8,), normalize_observation=True, normalize_value=True)
    spaces = Spaces((4,), "float32", Actions((2,), (0,)))
    network, other = (ActorCritic(config, spaces, torch.float32, torch.Generator().manual_seed(i)) for i in (1, 2))
    weights, _ = bind(network)
    network.body.encoder.normalizer.statistics.assign(3, torch.arange(4.0), torch.full((4,), 1e30))
    assert float(learned_part(network, weights).norm()) < 100
    assert len(weights) - len(learned_part(network, weights)) == 2 * (1 + 4 + 4) + 3
    copy_into(other, weights)
    assert torch.equal(other.body.encoder.normalizer.statistics.spread, torch.full((4,), 1e30))
