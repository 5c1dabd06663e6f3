"""Networks of the methods that learn continuous actions from replay: a policy and critics Q(s, a)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from asyncrl.envs.spaces import Spaces
from asyncrl.networks.body import Body
from asyncrl.networks.build import NetworkConfig
from asyncrl.networks.distributions import Deterministic, SquashedGaussian
from asyncrl.networks.encoders import MlpEncoder
from asyncrl.networks.initialization import initialize
from asyncrl.networks.layers import Linear

__all__ = ["Critic", "DeterministicActorCritic", "PolicyOutput", "SoftActorCritic", "frozen"]


class PolicyOutput(NamedTuple):
    """Outputs of a policy for T steps of N environments."""

    policy: SquashedGaussian | Deterministic
    """[T, N] distributions over actions."""
    state: Tensor
    """[N, S] float32: recurrent state after the last step."""

    def cpu(self) -> PolicyOutput:
        """Return a copy on the CPU."""
        return PolicyOutput(self.policy.cpu(), self.state.cpu())


class Critic(nn.Module):
    """(observation [N, *O], action [N, parts]) → Q(s, a) [N] float32.

    Numbers go side by side with the action into dense layers (`hidden`); images are encoded first.
    """

    def __init__(self, config: NetworkConfig, spaces: Spaces, dtype: torch.dtype, generator: torch.Generator) -> None:
        super().__init__()
        self.body = Body(replace(config, hidden=()), spaces, dtype, generator)
        inputs = Spaces((self.body.features + spaces.actions.parts,), "float32", spaces.actions)
        self.dense = MlpEncoder(inputs, config.hidden, config.activation, dtype, layer_norm=config.layer_norm)
        self.q = Linear(self.dense.features, 1)

    def forward(self, observation: Tensor, action: Tensor) -> Tensor:
        features, _ = self.body(observation[None], action.new_zeros(len(action), 0))
        values: Tensor = self.q(self.dense(torch.cat([features.squeeze(0), action], -1)).float())
        return values.squeeze(-1)


class DeterministicActorCritic(nn.Module):
    """(observation [T, N, *O], state [N, S], valid [T, N]) → a policy μ(s), beside `count` critics."""

    outputs = 1
    """Outputs of the policy's head for each number of an action."""

    def __init__(
        self, config: NetworkConfig, spaces: Spaces, dtype: torch.dtype, generator: torch.Generator, count: int
    ) -> None:
        super().__init__()
        self.body = Body(config, spaces, dtype, generator)
        self.state_size = self.body.state_size
        self.policy = Linear(self.body.features, self.outputs * spaces.actions.parts)
        critics = [Critic(config, spaces, dtype, generator) for _ in range(count)]
        self.critics = nn.ModuleList(critics)
        initialize(
            self, config.init, generator, {self.policy: 0.01, **dict.fromkeys([critic.q for critic in critics], 1.0)}
        )

    def forward(self, observation: Tensor, state: Tensor, valid: Tensor | None = None) -> PolicyOutput:
        features, state = self.body(observation, state, valid)
        return PolicyOutput(self.distribution(self.policy(features)), state)

    def distribution(self, parameters: Tensor) -> SquashedGaussian | Deterministic:
        """Return the policy with the head's outputs `parameters` […, outputs · parts]."""
        return Deterministic(parameters.tanh())

    def policies(self, observation: Tensor) -> Any:
        """Return the policies [N] of a feed-forward network for single steps `observation` [N, *O]."""
        features, _ = self.body(observation[None], self.policy.weight.new_zeros(len(observation), 0))
        return self.distribution(self.policy(features.squeeze(0)))

    def action_values(self, observation: Tensor, action: Tensor) -> Tensor:
        """Return every critic's Q(s, a) [C, N] for `observation` [N, *O] and `action` [N, parts]."""
        return torch.stack([critic(observation, action) for critic in self.critics])


class SoftActorCritic(DeterministicActorCritic):
    """The same with a squashed Gaussian policy π(a|s), and the logarithm of the temperature α."""

    outputs = 2

    def __init__(
        self, config: NetworkConfig, spaces: Spaces, dtype: torch.dtype, generator: torch.Generator, count: int
    ) -> None:
        super().__init__(config, spaces, dtype, generator, count)
        self.log_temperature = nn.Parameter(torch.zeros((), dtype=torch.float32))

    def distribution(self, parameters: Tensor) -> SquashedGaussian:
        return SquashedGaussian(*parameters.chunk(2, -1))


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Keep gradients of what is computed in the block from the parameters of `module`; they still pass through it."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
