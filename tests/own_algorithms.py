"""Algorithms as users write them, right and wrong."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar

from asyncrl.algorithms import A3C, DQN, Algorithm, Loss
from asyncrl.algorithms.base import ActContext, ActionOutput
from asyncrl.algorithms.optimizers import Optimizer, OptimizerConfig
from asyncrl.envs.spaces import Spaces
from asyncrl.experience import Experience
from asyncrl.networks import NetworkConfig


class Shape(Enum):
    FLAT = "flat"
    ROUND = "round"


@dataclass(frozen=True)
class Plain(A3C):
    """A3C with settings of its own."""

    optimizer: ClassVar[OptimizerConfig] = OptimizerConfig(Optimizer.ADAM, 3e-3)
    network_config: ClassVar[NetworkConfig] = NetworkConfig(hidden=(7,), layer_norm=True)

    t_max: int = 6
    """Steps per rollout."""
    clip: float = 2.0
    """Factor of the loss: a name that a setting of another algorithm once had."""
    shape: Shape = Shape.FLAT
    """Something to choose."""

    def loss(self, network: Any, target: Any, batch: Any) -> Loss:
        loss = super().loss(network, target, batch)
        return loss._replace(total=self.clip * loss.total)


@dataclass(frozen=True)
class Replaying(DQN):
    """DQN under another name."""


class Undecorated(A3C):
    factor: float = 1.0


@dataclass(frozen=True)
class NoDefault(A3C):
    factor: float = field(kw_only=True)


@dataclass(frozen=True)
class Listed(A3C):
    sizes: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Either(A3C):
    shape: int | str = 3


@dataclass(frozen=True)
class Unknown(A3C):
    shape: Form = 3  # type: ignore[name-defined]  # noqa: F821


@dataclass(frozen=True)
class NotClassVar(A3C):
    optimizer: OptimizerConfig = OptimizerConfig(Optimizer.ADAM)  # type: ignore[misc]  # noqa: RUF009


@dataclass(frozen=True)
class Aimless(A3C):
    def experience(self) -> Any:
        return None


@dataclass(frozen=True)
class Particular(A3C):
    factor: float = 3.0

    def __post_init__(self) -> None:
        if self.factor < 2:
            raise ValueError("the factor must be 2 or more")


@dataclass(frozen=True)
class BareAction(A3C):
    def act(self, network: Any, observation: Any, state: Any, context: ActContext) -> Any:
        return super().act(network, observation, state, context).action


@dataclass(frozen=True)
class FloatAction(A3C):
    def act(self, network: Any, observation: Any, state: Any, context: ActContext) -> ActionOutput:
        output = super().act(network, observation, state, context)
        return output._replace(action=output.action.float())


@dataclass(frozen=True)
class SeventhAction(A3C):
    def act(self, network: Any, observation: Any, state: Any, context: ActContext) -> ActionOutput:
        output = super().act(network, observation, state, context)
        return output._replace(action=output.action * 0 + 7)


@dataclass(frozen=True)
class OldCheck(A3C):
    def check(self, spaces: Spaces) -> None: ...  # type: ignore[override]


@dataclass(frozen=True)
class LongMetric(A3C):
    def loss(self, network: Any, target: Any, batch: Any) -> Loss:
        return super().loss(network, target, batch)._replace(metrics={"advantages": batch.reward})


@dataclass(frozen=True)
class TakenMetric(A3C):
    def loss(self, network: Any, target: Any, batch: Any) -> Loss:
        return super().loss(network, target, batch)._replace(metrics={"episodes": batch.reward.mean()})


@dataclass(frozen=True)
class FloatLoss(A3C):
    def loss(self, network: Any, target: Any, batch: Any) -> Any:
        return 0.5


@dataclass(frozen=True)
class Detached(A3C):
    def loss(self, network: Any, target: Any, batch: Any) -> Loss:
        loss = super().loss(network, target, batch)
        return loss._replace(total=loss.total.detach())


@dataclass(frozen=True)
class Colliding(A3C):
    steps: int = 3


@dataclass(frozen=True)
class Unfinished(Algorithm):
    def check(self, spaces: Spaces, network: NetworkConfig) -> None: ...

    def experience(self) -> Experience:
        raise NotImplementedError

    def act(self, network: Any, observation: Any, state: Any, context: ActContext) -> ActionOutput:
        raise NotImplementedError


@dataclass(frozen=True)
class NoNetwork(Unfinished):
    def loss(self, network: Any, target: Any, batch: Any) -> Loss:
        raise NotImplementedError


def function() -> None: ...
