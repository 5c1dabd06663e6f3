"""Networks that take the parts of an observation, one step at a time, instead of rollouts of bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from asyncrl.envs.spaces import Spaces
from asyncrl.networks.body import Body

__all__ = ["StepBody", "StepObservation", "for_single_steps"]


@dataclass(frozen=True)
class StepObservation:
    """Observations of N environments, as the parts that encoders decode from bytes, without the mask."""

    parts: Sequence[Tensor]
    """[N, …] each."""
    legal: Tensor | None
    """[N, Σ choices] bool: what the action mask allows; None without one."""

    @property
    def shape(self) -> tuple[int, int]:
        """(T, N), where T is 1."""
        return 1, self.parts[0].shape[0]


class StepBody(nn.Module):
    """A `Body` for a `StepObservation`: (observation, state [N, S]) → (features [1, N, F] float32, state [N, S])."""

    def __init__(self, body: Body, spaces: Spaces) -> None:
        super().__init__()
        self.encoder: Any = body.encoder
        self.core = body.core
        self.features, self.state_size = body.features, body.state_size
        self._has_parts = bool(spaces.features.entries)

    def forward(self, observation: StepObservation, state: Tensor, valid: None = None) -> tuple[Tensor, Tensor]:
        parts = observation.parts
        features = self.encoder.of_parts(parts) if self._has_parts else self.encoder(parts[0])
        features, state = self.core(features[None], state, None)
        return features.float(), state

    def legal(self, observation: StepObservation) -> Tensor | None:
        """Return which choices are allowed, [1, N, Σ choices] bool; None without an action mask."""
        return None if observation.legal is None else observation.legal[None]


def for_single_steps(network: nn.Module, spaces: Spaces) -> bool:
    """Replace each body of `network` by a `StepBody`. Returns whether there was one."""
    bodies = {name: child for name, child in network.named_children() if isinstance(child, Body)}
    for name, body in bodies.items():
        setattr(network, name, StepBody(body, spaces))
    return bool(bodies)
