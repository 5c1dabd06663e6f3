"""The settings of optimizers, learning-rate schedules and gradient clipping."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Annotated

import torch
from torch import Tensor

from asyncrl.common.search_space import Range
from asyncrl.common.validation import flag, within
from asyncrl.errors import UsageError

__all__ = [
    "GradientClipping",
    "LearningRate",
    "LearningRateSchedule",
    "Optimizer",
    "OptimizerConfig",
    "StatisticsSharing",
    "clip_",
]


class Optimizer(Enum):
    """The optimizers by name."""

    RMSPROP = "rmsprop"
    """RMSProp with ε inside the square root (Mnih et al. 2016, section 4)"""
    RMSPROP_OUTSIDE = "rmsprop-outside"
    """RMSProp with ε outside the square root, as in torch and Keras"""
    ADAM = "adam"
    RADAM = "radam"
    """Adam with a rectified learning rate, which needs no warm-up (Liu et al. 2020)"""
    SGD = "sgd"


class StatisticsSharing(Enum):
    """Whether hogwild workers share the optimizer's moving averages."""

    SHARED = "shared"
    """one set for all workers: the paper's Shared RMSProp"""
    OWN = "own"
    """one set per worker"""


class GradientClipping(Enum):
    """The norm that `max_gradient_norm` bounds."""

    GLOBAL = "global"
    """the norm of the whole gradient"""
    TENSOR = "tensor"
    """the norm of each parameter's gradient"""
    AVERAGE = "average"
    """the norm of each parameter's gradient divided by its number of entries"""
    NONE = "none"


class LearningRateSchedule(Enum):
    """The learning-rate schedules by name."""

    CONSTANT = "constant"
    LINEAR = "linear"
    """falls linearly over the run's steps"""
    KL = "kl"
    """adapts so that each update moves the policy by about `target_kl` (ppo)"""


@dataclass(frozen=True)
class OptimizerConfig:
    """The optimizer and the schedule of its learning rate."""

    optimizer: Optimizer = Optimizer.RMSPROP
    """Optimizer."""
    learning_rate: Annotated[float, Range(1e-5, 1e-2, log=True)] = 7e-4
    """Initial learning rate η."""
    learning_rate_schedule: LearningRateSchedule = LearningRateSchedule.LINEAR
    """Schedule of the learning rate."""
    anneal_to: float = 0.0
    """Linear schedule: final fraction of the learning rate."""
    anneal_steps: int | None = None
    """Linear schedule: environment steps until the final learning rate, constant afterwards. Default: the whole run."""
    target_kl: float = 0.01
    """KL schedule: target KL divergence of the learned policy from the one that acted, in nats; with --lag 1, two updates
    lie between them. The learning rate is multiplied by 1.5 after an update below half the target and divided by 1.5 after
    one above twice the target, within 0.01 to 10 times --learning-rate."""
    momentum: float | None = None
    """Momentum of sgd and rmsprop-outside (default 0); β₁ of adam and radam (default 0.9)."""
    decay: float = 0.99
    """Decay of the moving average of squared gradients: α of RMSProp, β₂ of adam and radam. The default does not depend
    on --optimizer; 0.999 is usual for adam."""
    optimizer_epsilon: float = 1e-5
    """ε added to the average of squared gradients (rmsprop), or to its root (the others). The 0.1 usual with the paper is
    for gradients summed over steps, not averaged."""
    optimizer_statistics: StatisticsSharing = StatisticsSharing.SHARED
    """Hogwild: whether workers share the moving averages of the optimizer."""
    gradient_clipping: GradientClipping = GradientClipping.GLOBAL
    """The norm that --max-gradient-norm bounds."""
    max_gradient_norm: Annotated[float, Range(0.3, 10.0, log=True)] = 0.5
    """Largest norm of a gradient; larger gradients are scaled down to it."""

    def check(self) -> None:
        """Raise UsageError for values out of range."""
        within(self, 0, math.inf, "learning_rate", "optimizer_epsilon", "max_gradient_norm", "target_kl", above=True)
        within(self, 0, 1, "anneal_to", "decay", "momentum")
        within(self, 1, math.inf, "anneal_steps")
        kind = self.optimizer.value
        is_adam = self.optimizer in (Optimizer.ADAM, Optimizer.RADAM)
        for name, is_averaged in (("decay", self.optimizer is not Optimizer.SGD), ("momentum", is_adam)):
            if is_averaged and getattr(self, name) == 1:
                raise UsageError(
                    f"{flag(name)} must be below 1 with --optimizer {kind}, not 1: its averages would never change"
                )

    @property
    def betas(self) -> tuple[float, float]:
        """β₁ and β₂ of adam and radam."""
        return 0.9 if self.momentum is None else self.momentum, self.decay


class LearningRate:
    """The learning rate of every update in a run of `steps` environment steps."""

    MIN_SCALE = 0.01
    """Lower bound of the KL schedule, as a multiple of the initial learning rate."""
    MAX_SCALE = 10.0
    """Upper bound of the KL schedule."""
    FACTOR = 1.5
    """Change of the KL schedule per update."""

    def __init__(self, config: OptimizerConfig, steps: int) -> None:
        self._config, self._steps = config, steps
        self._adapted = config.learning_rate

    def at(self, step: int) -> float:
        """Return the learning rate of the next update after `step` environment steps."""
        config = self._config
        if config.learning_rate_schedule is not LearningRateSchedule.LINEAR:
            return self._adapted
        progress = min(1.0, step / (config.anneal_steps or self._steps))
        return config.learning_rate * (1 - (1 - config.anneal_to) * progress)

    @property
    def is_adaptive(self) -> bool:
        """Whether it depends on the results of updates (`adapt`)."""
        return self._config.learning_rate_schedule is LearningRateSchedule.KL

    def adapt(self, kl: float) -> None:
        """Adjust the KL schedule to the `kl` of an update: mean KL(acting policy || learned policy), in nats."""
        config = self._config
        if kl > 2 * config.target_kl:
            self._adapted = max(self._adapted / self.FACTOR, self.MIN_SCALE * config.learning_rate)
        elif kl < config.target_kl / 2:
            self._adapted = min(self._adapted * self.FACTOR, self.MAX_SCALE * config.learning_rate)

    def state(self) -> dict[str, Tensor]:
        """Return the state for `restore`: {} for schedules that depend on the step alone."""
        if not self.is_adaptive:
            return {}
        values = {"adapted": self._adapted, "initial": self._config.learning_rate}
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Restore a saved `state`, scaled if the initial learning rate has changed since."""
        if state:
            initial = float(state.get("initial", self._config.learning_rate))
            self._adapted = float(state["adapted"]) * (self._config.learning_rate / initial)


def clip_(config: OptimizerConfig, gradient: Tensor, tensors: Sequence[Tensor]) -> Tensor:
    """Clip `gradient` [P] in place and return its norm before, a scalar. One that is not finite stays, to be reported.

    `tensors` are the views of `gradient` that belong to the single parameters.
    """
    norm: Tensor = torch.linalg.vector_norm(gradient)
    max_norm, is_finite = config.max_gradient_norm, norm.isfinite()
    match config.gradient_clipping:
        case GradientClipping.GLOBAL:
            gradient.mul_(torch.where(is_finite, (max_norm / (norm + 1e-6)).clamp(max=1.0), 1.0))
        case GradientClipping.TENSOR | GradientClipping.AVERAGE as kind:
            for tensor in tensors:
                own_norm = tensor.norm() / (tensor.numel() if kind is GradientClipping.AVERAGE else 1)
                tensor.mul_(torch.where(is_finite, (max_norm / (own_norm + 1e-12)).clamp(max=1.0), 1.0))
    return norm
