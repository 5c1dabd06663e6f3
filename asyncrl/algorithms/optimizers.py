"""From a gradient to a step: optimizers, learning rates, clipping. What torch does not have is here."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
from torch import Tensor

from asyncrl.common.validation import flag, within
from asyncrl.errors import UsageError

__all__ = [
    "GradientClipping",
    "LearningRate",
    "LearningRateSchedule",
    "Optimizer",
    "OptimizerConfig",
    "RMSprop",
    "StatisticsSharing",
    "clip_",
    "statistics",
]


class Optimizer(Enum):
    """How a gradient becomes a step."""

    RMSPROP = "rmsprop"
    """ε inside the square root (Mnih et al. 2016, equation 8)"""
    RMSPROP_OUTSIDE = "rmsprop-outside"
    """ε added to the square root, as in torch and Keras"""
    ADAM = "adam"
    SGD = "sgd"


class StatisticsSharing(Enum):
    """Whose a worker's moving averages are (engine hogwild; with one learner there is one of each)."""

    SHARED = "shared"
    """everyone's: the paper's Shared RMSProp"""
    OWN = "own"


class GradientClipping(Enum):
    """What is held below `max_gradient_norm`."""

    GLOBAL = "global"
    """the norm of the whole gradient"""
    TENSOR = "tensor"
    """the norm of each parameter's gradient"""
    AVERAGE = "average"
    """the norm of each parameter's gradient, divided by its number of entries"""
    NONE = "none"


class LearningRateSchedule(Enum):
    """How the learning rate moves during a run."""

    CONSTANT = "constant"
    LINEAR = "linear"
    """falls linearly over the run's steps"""
    KL = "kl"
    """follows how far each update moves the policy, so that it moves by about `target_kl` (ppo)"""


@dataclass(frozen=True)
class OptimizerConfig:
    """The optimizer and the schedule of its learning rate."""

    optimizer: Optimizer = Optimizer.RMSPROP
    """How a gradient becomes a step."""
    learning_rate: float = 7e-4
    """η at the beginning."""
    learning_rate_schedule: LearningRateSchedule = LearningRateSchedule.LINEAR
    """How the learning rate moves during a run."""
    anneal_to: float = 0.0
    """Linear schedule: share of the learning rate that is left at the end."""
    anneal_steps: int | None = None
    """Linear schedule: steps over which it falls; constant after them. Default: the run's."""
    target_kl: float = 0.01
    """KL schedule: how far an update should move the policy, in nats. The learning rate is multiplied by 1.5 after an
    update that moved it less than half as far, and divided by 1.5 after one that moved it more than twice as far; it
    stays between a hundredth and ten times --learning-rate."""
    momentum: float | None = None
    """Of sgd and rmsprop-outside (default 0); β₁ of adam (default 0.9)."""
    decay: float = 0.99
    """Of the moving average of squared gradients: α of RMSProp, β₂ of adam. It does not follow --optimizer: adam's usual
    value is 0.999."""
    optimizer_epsilon: float = 1e-5
    """ε beside the squared gradients. The paper's 0.1 belongs to gradients that are summed, not averaged."""
    optimizer_statistics: StatisticsSharing = StatisticsSharing.SHARED
    """Hogwild: one moving average of squared gradients for all workers, or one for each."""
    gradient_clipping: GradientClipping = GradientClipping.GLOBAL
    """What is held below --max-gradient-norm."""
    max_gradient_norm: float = 0.5
    """The longest gradient; longer ones are shortened to it."""

    def check(self) -> None:
        """Raise UsageError for constants out of range."""
        within(self, 0, math.inf, "learning_rate", "optimizer_epsilon", "max_gradient_norm", "target_kl", above=True)
        within(self, 0, 1, "anneal_to", "decay", "momentum")
        within(self, 1, math.inf, "anneal_steps")
        for name in ("decay", "momentum"):
            if self.optimizer is Optimizer.ADAM and getattr(self, name) == 1:
                raise UsageError(f"{flag(name)} must be below 1 with --optimizer adam: at 1 its averages never move")

    def build(self, weights: Tensor) -> torch.optim.Optimizer:
        """The optimizer of the weight vector [P]."""
        rate, epsilon = self.learning_rate, self.optimizer_epsilon
        match self.optimizer:
            case Optimizer.RMSPROP:
                return RMSprop([weights], rate, self.decay, epsilon)
            case Optimizer.RMSPROP_OUTSIDE:
                return torch.optim.RMSprop([weights], rate, self.decay, epsilon, momentum=self.momentum or 0.0)
            case Optimizer.ADAM:
                return torch.optim.Adam(
                    [weights], rate, (0.9 if self.momentum is None else self.momentum, self.decay), epsilon, fused=True
                )
            case Optimizer.SGD:
                return torch.optim.SGD([weights], rate, momentum=self.momentum or 0.0)


class LearningRate:
    """The learning rate of a run of `steps` environment steps, from update to update."""

    LEAST, MOST = 0.01, 10.0
    """Bounds of the KL schedule, as multiples of the initial learning rate."""
    FACTOR = 1.5

    def __init__(self, config: OptimizerConfig, steps: int) -> None:
        self._config, self._steps = config, steps
        self._adapted = config.learning_rate

    def at(self, step: int) -> float:
        """The learning rate of the next update, when `step` steps have been learned from."""
        config = self._config
        if config.learning_rate_schedule is not LearningRateSchedule.LINEAR:
            return self._adapted
        progress = min(1.0, step / (config.anneal_steps or self._steps))
        return config.learning_rate * (1 - (1 - config.anneal_to) * progress)

    @property
    def is_adaptive(self) -> bool:
        """Does it depend on what updates do?"""
        return self._config.learning_rate_schedule is LearningRateSchedule.KL

    def adapt(self, kl: float) -> None:
        """Take note of how far an update moved the policy: KL(before || after) in nats, averaged over its states."""
        config = self._config
        if kl > 2 * config.target_kl:
            self._adapted = max(self._adapted / self.FACTOR, self.LEAST * config.learning_rate)
        elif kl < config.target_kl / 2:
            self._adapted = min(self._adapted * self.FACTOR, self.MOST * config.learning_rate)

    def state(self) -> dict[str, Tensor]:
        """What `restore` takes; {} where the schedule depends on the step alone."""
        if not self.is_adaptive:
            return {}
        values = {"adapted": self._adapted, "initial": self._config.learning_rate}
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on with what `state` gave; where the run goes on with another initial rate, in proportion to it."""
        if state:
            initial = float(state.get("initial", self._config.learning_rate))
            self._adapted = float(state["adapted"]) * (self._config.learning_rate / initial)


def statistics(config: OptimizerConfig, weights: Tensor) -> dict[str, Tensor]:
    """What the optimizer of `weights` [P] keeps from step to step, as it begins: zeros, by name."""
    probe = torch.nn.Parameter(torch.zeros(1, dtype=torch.float32))
    probe.grad = torch.zeros_like(probe)
    optimizer = config.build(probe)
    optimizer.step()
    kept = {name: x for name, x in optimizer.state[probe].items() if isinstance(x, Tensor)}
    return {name: torch.zeros(x.shape if x.dim() == 0 else weights.shape, dtype=torch.float32) for name, x in kept.items()}


def clip_(config: OptimizerConfig, gradient: Tensor, tensors: Sequence[Tensor]) -> Tensor:
    """Shorten `gradient` [P], of which `tensors` are the parameters' views; returns its norm before."""
    norm: Tensor = gradient.norm()
    longest = config.max_gradient_norm
    match config.gradient_clipping:
        case GradientClipping.GLOBAL:
            gradient.mul_((longest / (norm + 1e-6)).clamp(max=1.0))
        case GradientClipping.TENSOR | GradientClipping.AVERAGE as kind:
            for tensor in tensors:
                own = tensor.norm() / (tensor.numel() if kind is GradientClipping.AVERAGE else 1)
                tensor.mul_((longest / (own + 1e-12)).clamp(max=1.0))
    return norm


class RMSprop(torch.optim.Optimizer):
    """RMSProp with epsilon *inside* the square root (Mnih et al. 2016, equation 8).

    ``g ← α·g + (1 − α)·Δθ²``, ``θ ← θ − η·Δθ / √(g + ε)``. `torch.optim.RMSprop` adds ε outside,
    which is another step size where ε is as large as the paper's 0.1. The average begins at 0,
    TensorFlow's at 1. There is one learner, so the statistics `g` are shared among all actors by
    construction (the paper's "Shared RMSProp").
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float, alpha: float = 0.99, eps: float = 0.1) -> None:
        super().__init__(parameters, {"lr": lr, "alpha": alpha, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        assert closure is None
        for group in self.param_groups:
            for parameter in group["params"]:
                state: dict[str, Any] = self.state[parameter]
                if not state:
                    state["square_average"] = torch.zeros_like(parameter)
                gradient, average = parameter.grad, state["square_average"]
                average.mul_(group["alpha"]).addcmul_(gradient, gradient, value=1 - group["alpha"])
                parameter.addcdiv_(gradient, (average + group["eps"]).sqrt_(), value=-group["lr"])
