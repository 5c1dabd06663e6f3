"""Networks as users write them, right and wrong."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from asyncrl.envs.spaces import Spaces
from asyncrl.networks import ActionValues, CompleteNetwork, PolicyValue
from asyncrl.networks.distributions import Categorical


class Encoder(nn.Module):
    def __init__(self, spaces: Spaces) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(spaces.observation_size, 16), nn.Tanh(), nn.Linear(16, 8), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x.flatten(1).float())


class Lazy(nn.Module):
    """The sizes of its layers follow from the first observation."""

    def __init__(self, spaces: Spaces) -> None:
        super().__init__()
        channels = spaces.observation_shape[0]
        self.layers = nn.Sequential(nn.Conv2d(channels, 8, 8, 4), nn.ReLU(), nn.Flatten(), nn.LazyLinear(8), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        assert x.dtype == torch.uint8
        return self.layers(x / 255)


class Parts(nn.Module):
    def __init__(self, spaces: Spaces) -> None:
        super().__init__()
        numbers = sum(entry.shape[0] for entry in spaces.entries if not entry.choices)
        self.choices = [entry for entry in spaces.entries if entry.choices]
        self.embeddings = nn.ModuleList(nn.Embedding(entry.choices, 3) for entry in self.choices)
        self.dense = nn.Linear(numbers + 3 * len(self.choices), 8)

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        embedded = [layer(x[entry.name]) for entry, layer in zip(self.choices, self.embeddings, strict=True)]
        numbers = [part.float() for name, part in x.items() if name not in {entry.name for entry in self.choices}]
        return self.dense(torch.cat([*embedded, *numbers], -1)).relu()


class Branching(Encoder):
    """What it computes depends on its input in a way that a trace cannot have."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if x.float().sum() > 0 else super().forward(-x)


class Frozen(Encoder):
    def __init__(self, spaces: Spaces) -> None:
        super().__init__(spaces)
        self.layers[0].requires_grad_(False)


class Policy(CompleteNetwork):
    """A policy and a value that share nothing."""

    def __init__(self, spaces: Spaces) -> None:
        super().__init__()
        self.policy = nn.Linear(spaces.observation_size, sum(spaces.actions.choices))
        self.critic = nn.Linear(spaces.observation_size, 1)
        self.choices = spaces.actions.choices

    def forward(self, observation: Tensor, state: Tensor, valid: Tensor | None = None) -> PolicyValue:
        x = observation.flatten(2).float()
        return PolicyValue(Categorical(self.policy(x), self.choices), self.critic(x).squeeze(-1), state)


class Values(CompleteNetwork):
    def __init__(self, spaces: Spaces) -> None:
        super().__init__()
        self.q = nn.Linear(spaces.observation_size, spaces.actions.choices[0])

    def forward(self, observation: Tensor, state: Tensor, valid: Tensor | None = None) -> ActionValues:
        q = self.q(observation.flatten(2).float())
        return ActionValues(q, q[..., None], state)


class Constant(nn.Module):
    """It has no parameters, which is fine."""

    def __init__(self, spaces: Spaces) -> None:
        super().__init__()
        self.register_buffer("scale", torch.full((spaces.observation_size,), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1).float() * self.scale


def policy(spaces: Spaces) -> nn.Module:
    """A function that makes a complete network."""
    return Policy(spaces)


class BatchNorm(Encoder):
    def __init__(self, spaces: Spaces) -> None:
        super().__init__(spaces)
        self.layers.append(nn.BatchNorm1d(8))


class Dropout(Encoder):
    def __init__(self, spaces: Spaces) -> None:
        super().__init__(spaces)
        self.layers.append(nn.Dropout(0.5))


class Unregistered(Encoder):
    def __init__(self, spaces: Spaces) -> None:
        super().__init__(spaces)
        self.shift = torch.randn(8)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.shift


class OnlyTwo(Encoder):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).view(2, 8)


class InPlace(Encoder):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).mul_(2)


class Detached(Encoder):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).detach()


class Exits(Encoder):
    def forward(self, x: Tensor) -> Tensor:
        raise SystemExit(3)


class NoFeatures(Encoder):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[:, :0]


class NotFinite(Encoder):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) / 0


class NeedsWidth(Encoder):
    def __init__(self, spaces: Spaces, width: int) -> None:
        super().__init__(spaces)


class Double(Encoder):
    def __init__(self, spaces: Spaces) -> None:
        super().__init__(spaces)
        self.unused = nn.Parameter(torch.zeros(3, dtype=torch.float64))


class NoBatch(Encoder):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).sum(0)


class Mismatched(Encoder):
    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x[:, :2])


class Tuple(Encoder):
    def forward(self, x: Tensor) -> Any:
        return x, x


class NoValue(Policy):
    def forward(self, observation: Tensor, state: Tensor, valid: Tensor | None = None) -> PolicyValue:
        policy, value, state = super().forward(observation, state, valid)
        return PolicyValue(policy, value[..., None], state)


def nothing(spaces: Spaces) -> None: ...


def raising(spaces: Spaces) -> nn.Module:
    raise KeyError("layers")


number = 3
