"""Networks: sizes, layers, and equality of acting and learning."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from asyncrl.algorithms import ActContext, Impala, Policy
from asyncrl.algorithms.building import build_network
from asyncrl.envs.spaces import Actions, Spaces
from asyncrl.errors import UsageError
from asyncrl.networks import ActorCritic, NetworkConfig, bind, copy_into, keep_in_compute_dtype, named_views
from asyncrl.networks.distributions import Categorical, DiagonalGaussian

PIXELS = Spaces((4, 84, 84), "uint8", Actions((6,), (0,)))
VECTOR = Spaces((4,), "float32", Actions((2,), (0,)))


def network(config: NetworkConfig, spaces: Spaces, dtype: torch.dtype = torch.float32, seed: int = 1) -> ActorCritic:
    return ActorCritic(config, spaces, dtype, torch.Generator().manual_seed(seed)).requires_grad_(False)


def ask(network: ActorCritic, observation: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits [N, A] and values [N] of one step."""
    policy, value, _ = network(observation[None], torch.zeros(len(observation), network.state_size))
    assert isinstance(policy, Categorical)
    return policy.logits[0], value[0]


def frames(low: int = 0, high: int = 256, count: int = 3) -> torch.Tensor:
    return torch.randint(low, high, (count, *PIXELS.observation_shape), dtype=torch.uint8)


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [("a3c-cnn", 677_943), ("nature-cnn", 1_687_719), ("padded-cnn", 2_025_575), ("impala-resnet", 1_091_031)],
)
def test_the_papers_networks_have_their_number_of_parameters(kind: str, parameters: int) -> None:
    made = network(NetworkConfig(kind), PIXELS)
    assert sum(p.numel() for p in made.parameters()) == parameters


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize(("kind", "spaces"), [("mlp", VECTOR), ("a3c-cnn", PIXELS), ("impala-resnet", PIXELS)])
def test_acting_computes_the_same_as_learning(kind: str, spaces: Spaces, layer_norm: bool, dtype: torch.dtype) -> None:
    config = NetworkConfig(kind, layer_norm=layer_norm)
    learned, acting = network(config, spaces, dtype), network(config, spaces, dtype, seed=2)
    keep_in_compute_dtype(acting)
    copy_into(acting, bind(learned)[0])
    observation = frames() if spaces.is_image else torch.randn(3, 4)
    for ours, theirs in zip(ask(learned, observation), ask(acting, observation), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)  # far below what bfloat16 resolves


def test_layer_norm_is_applied_before_the_activation_of_every_hidden_layer() -> None:
    encoder = network(NetworkConfig(hidden=(8, 5), layer_norm=True), VECTOR).body.encoder
    observation = x = torch.randn(3, 4)
    for layer in encoder.layers:
        y = layer(x)
        y = (y - y.mean(-1, keepdim=True)) / (y.var(-1, keepdim=True, correction=0) + 1e-5).sqrt()
        x = y.tanh()
    assert torch.allclose(encoder(observation), x, atol=1e-5)


def test_layer_norm_makes_convolutions_independent_of_the_scale_of_their_weights() -> None:
    made = network(NetworkConfig("a3c-cnn", layer_norm=True, centered=False), PIXELS)
    observation = frames()
    before = ask(made, observation)
    for layer in [*made.body.encoder.convolutions, made.body.encoder.dense]:
        layer.weight.mul_(3.0)
    for old, new in zip(before, ask(made, observation), strict=True):
        assert torch.allclose(old, new, atol=1e-3)


@pytest.mark.parametrize(("kind", "spaces", "units"), [("mlp", VECTOR, 2 * (64 + 64)), ("a3c-cnn", PIXELS, 256)])
def test_layer_norm_has_a_gain_and_a_bias_for_every_unit(kind: str, spaces: Spaces, units: int) -> None:
    if kind == "a3c-cnn":
        units += 16 * 20 * 20 + 32 * 9 * 9
    plain, normalized = (network(NetworkConfig(kind, layer_norm=on), spaces) for on in (False, True))
    sizes = [sum(p.numel() for p in made.parameters()) for made in (plain, normalized)]
    assert sizes[1] - sizes[0] == 2 * units
    assert {name for name, _ in plain.named_parameters()} <= {name for name, _ in normalized.named_parameters()}


def test_the_width_multiplies_the_channels_of_the_residual_network() -> None:
    narrow, wide = (network(NetworkConfig("impala-resnet", resnet_width=width), PIXELS) for width in (1, 4))
    shapes = [
        [layer.weight.shape[0] for layer in made.modules() if isinstance(layer, nn.Conv2d)] for made in (narrow, wide)
    ]
    assert shapes[0] == [16] * 5 + [32] * 10
    assert shapes[1] == [4 * channels for channels in shapes[0]]


def test_centered_kernels_ignore_a_uniform_background() -> None:
    centered = network(NetworkConfig("a3c-cnn"), PIXELS)
    plain = network(NetworkConfig("a3c-cnn", centered=False), PIXELS)
    dark = frames(0, 100)
    bright = dark + 100
    assert torch.allclose(ask(centered, dark)[1], ask(centered, bright)[1], atol=1e-4)
    assert not torch.allclose(ask(plain, dark)[1], ask(plain, bright)[1], atol=1e-2)


CONTINUOUS = Spaces((4,), "float32", Actions(low=(-1.0, -2.0), high=(1.0, 2.0), shape=(2,), dtype="float32"))


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("deviation", [0.01, 0.135, 1.0, 5.0])
def test_a_normal_policy_starts_with_the_standard_deviation_that_is_set(deviation: float, adaptive: bool) -> None:
    made = network(NetworkConfig(initial_std=deviation, adaptive_std=adaptive), CONTINUOUS)
    policy = made(torch.zeros(1, 3, 4), torch.zeros(3, 0)).policy
    assert isinstance(policy, DiagonalGaussian)
    assert torch.allclose(policy.variance.sqrt(), torch.tensor(deviation), rtol=1e-3)


@pytest.mark.parametrize("adaptive", [False, True])
def test_the_standard_deviation_depends_on_the_observation_unless_switched_off(adaptive: bool) -> None:
    made = network(NetworkConfig(adaptive_std=adaptive), CONTINUOUS)
    policy = made(torch.randn(1, 3, 4), torch.zeros(3, 0)).policy
    assert isinstance(policy, DiagonalGaussian)
    assert (len(policy.variance.unique(dim=1)[0]) == 1) is not adaptive
    assert len(policy.mean.unique(dim=1)[0]) == 3


def test_the_weight_vector_is_the_network() -> None:
    made = network(NetworkConfig(hidden=(8,)), VECTOR)
    weights, gradient = bind(made)
    before = ask(made, torch.ones(1, 4))[1].item()
    weights.mul_(0.5)
    assert ask(made, torch.ones(1, 4))[1].item() != before
    assert sum(view.numel() for _, view in named_views(made, gradient)) == len(weights)


@pytest.mark.parametrize("config", [NetworkConfig("nature-cnn"), NetworkConfig("mlp", hidden=(8, 0))])
def test_a_network_that_does_not_fit_raises(config: NetworkConfig) -> None:
    with pytest.raises(UsageError, match=r"--network nature-cnn|--hidden"):
        network(config, VECTOR)


def test_frames_too_small_for_the_convolutions_raise() -> None:
    with pytest.raises(UsageError, match="36×36"):
        network(NetworkConfig("nature-cnn"), Spaces((4, 20, 20), "uint8", PIXELS.actions))


def test_networks_that_are_built_after_a_policy_are_initialized_as_before() -> None:
    """A policy's own weights are loaded, so they are not initialized."""

    def initial() -> torch.Tensor:
        network = build_network(Impala(), NetworkConfig(), VECTOR, torch.float32, torch.Generator().manual_seed(7))
        return torch.cat([parameter.flatten() for parameter in network.parameters()])

    weights, state = initial(), torch.get_rng_state()
    Policy(Impala(), NetworkConfig(), VECTOR, torch.float32)
    assert torch.equal(initial(), weights)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_policy_acts_the_same_on_another_device() -> None:
    """To a policy `cpu:0` is another device than `cpu`: outputs are copied back."""
    random = [torch.Generator().manual_seed(3) for _ in range(2)]
    policies = [Policy(Impala(), NetworkConfig(), VECTOR, torch.float32, device) for device in ("cpu", "cpu:0")]
    seen = torch.randn(6, 4)
    one, other = (p.act(seen, p.initial_state(6), ActContext.evaluation(r)) for p, r in zip(policies, random, strict=True))
    assert torch.equal(one.action, other.action)
    assert torch.equal(one.extras["log_prob"], other.extras["log_prob"])


def test_epsilon_1_makes_actions_uniform() -> None:
    policy = Policy(Impala(), NetworkConfig(), VECTOR, torch.float32)
    context = ActContext.evaluation(torch.Generator().manual_seed(1), greedy=True, epsilon=1.0)
    action = policy.act(torch.ones(4_000, 4), policy.initial_state(4_000), context).action
    assert float(action.float().mean()) == pytest.approx(0.5, abs=0.03)
