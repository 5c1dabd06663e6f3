"""Networks of the methods that learn a policy from replay: the policy, and critics Q(s, a)."""

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
from asyncrl.networks.distributions import Categorical, Deterministic, SquashedGaussian
from asyncrl.networks.encoders import MlpEncoder
from asyncrl.networks.heads import QNetwork
from asyncrl.networks.initialization import initialize
from asyncrl.networks.layers import Linear
from asyncrl.networks.masks import mask_out

__all__ = [
    "Critic",
    "DeterministicActorCritic",
    "DiscreteSoftActorCritic",
    "PolicyOutput",
    "SoftActorCritic",
    "frozen",
]


class PolicyOutput(NamedTuple):
    """Outputs of a policy for T steps of N environments."""

    policy: SquashedGaussian | Deterministic | Categorical
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


class DiscreteSoftActorCritic(nn.Module):
    """(observation [T, N, *O], state [N, S], valid [T, N]) → a policy π(a|s) over A actions, beside `count` critics.

    The policy and each critic have a separate body. The logarithm of the temperature α is a parameter.
    """

    def __init__(
        self, config: NetworkConfig, spaces: Spaces, dtype: torch.dtype, generator: torch.Generator, count: int
    ) -> None:
        super().__init__()
        assert spaces.actions.count is not None
        self.actions = spaces.actions.count
        self.body = Body(config, spaces, dtype, generator)
        self.state_size = self.body.state_size
        self.policy = Linear(self.body.features, self.actions)
        initialize(self, config.init, generator, {self.policy: 0.01})
        self.critics = nn.ModuleList(QNetwork(config, spaces, dtype, generator) for _ in range(count))
        self.log_temperature = nn.Parameter(torch.zeros((), dtype=torch.float32))

    def forward(self, observation: Tensor, state: Tensor, valid: Tensor | None = None) -> PolicyOutput:
        features, state = self.body(observation, state, valid)
        logits = mask_out(self.policy(features), self.body.legal(observation))
        return PolicyOutput(Categorical(logits, (self.actions,)), state)

    def probabilities(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """Return π(·|s) [N, A] of a feed-forward network for `observation` [N, *O], and its entropy [N] in nats."""
        policy: Any = self(observation[None], _no_state(observation)).policy
        return policy.logits[0].softmax(-1), policy.entropy()[0]

    def allowed(self, observation: Tensor) -> Tensor:
        """Return the number of allowed actions [N] float32 for `observation` [N, *O]."""
        legal = self.body.legal(observation[None])
        if legal is None:
            return torch.full((len(observation),), self.actions, dtype=torch.float32, device=observation.device)
        return legal[0].float().sum(-1)

    def all_action_values(self, observation: Tensor) -> Tensor:
        """Return every critic's Q(s, ·) [C, N, A] for `observation` [N, *O]; those of forbidden actions mean nothing."""
        state = _no_state(observation)
        return torch.stack([critic(observation[None], state).outputs[0, ..., 0] for critic in self.critics])

    def action_values(self, observation: Tensor, action: Tensor) -> Tensor:
        """Return every critic's Q(s, a) [C, N] for `observation` [N, *O] and `action` [N] int64."""
        values = self.all_action_values(observation)
        return values.gather(-1, action.expand(len(values), -1)[..., None]).squeeze(-1)


def _no_state(observation: Tensor) -> Tensor:
    """Return the state [N, 0] float32 of a feed-forward network for `observation` [N, *O]."""
    return torch.zeros(len(observation), 0, dtype=torch.float32, device=observation.device)


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
