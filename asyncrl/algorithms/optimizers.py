"""Optimizers, learning-rate schedules and gradient clipping."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
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
    "RMSprop",
    "StatisticsSharing",
    "WeightOptimizer",
    "clip_",
    "statistics",
]


class Optimizer(Enum):
    """The optimizers by name."""

    RMSPROP = "rmsprop"
    """RMSProp with ε inside the square root (Mnih et al. 2016, equation 8)"""
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
    """KL schedule: target KL divergence of an update, in nats. The learning rate is multiplied by 1.5 after an update below
    half the target and divided by 1.5 after one above twice the target, within 0.01 to 10 times --learning-rate."""
    momentum: float | None = None
    """Momentum of sgd and rmsprop-outside (default 0); β₁ of adam and radam (default 0.9)."""
    decay: float = 0.99
    """Decay of the moving average of squared gradients: α of RMSProp, β₂ of adam and radam. The default does not depend
    on --optimizer; 0.999 is usual for adam."""
    optimizer_epsilon: float = 1e-5
    """ε added to the squared gradients. The paper's 0.1 is for gradients that are summed over steps, not averaged."""
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
        for name in ("decay", "momentum"):
            if self.optimizer in (Optimizer.ADAM, Optimizer.RADAM) and getattr(self, name) == 1:
                kind = self.optimizer.value
                raise UsageError(
                    f"{flag(name)} must be below 1 with --optimizer {kind}, not 1: its averages would never change"
                )

    @property
    def _betas(self) -> tuple[float, float]:
        return 0.9 if self.momentum is None else self.momentum, self.decay

    def build(self, *weights: Tensor) -> torch.optim.Optimizer:
        """Return an optimizer of one or more weight vectors [P]."""
        rate, epsilon = self.learning_rate, self.optimizer_epsilon
        match self.optimizer:
            case Optimizer.RMSPROP:
                return RMSprop(weights, lr=rate, alpha=self.decay, eps=epsilon)
            case Optimizer.RMSPROP_OUTSIDE:
                return torch.optim.RMSprop(weights, lr=rate, alpha=self.decay, eps=epsilon, momentum=self.momentum or 0.0)
            case Optimizer.ADAM:
                return torch.optim.Adam(weights, lr=rate, betas=self._betas, eps=epsilon, fused=True)
            case Optimizer.RADAM:
                return torch.optim.RAdam(weights, lr=rate, betas=self._betas, eps=epsilon)
            case Optimizer.SGD:
                return torch.optim.SGD(weights, lr=rate, momentum=self.momentum or 0.0)


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
        """Adjust the KL schedule to the `kl` of an update: mean KL(before || after) over its states, in nats."""
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


def statistics(config: OptimizerConfig, weights: Tensor) -> dict[str, Tensor]:
    """Return the initial state of the optimizer of `weights` [P]: zeros by name, [P] or scalar float32."""
    probe = torch.nn.Parameter(torch.zeros(1, dtype=torch.float32))
    probe.grad = torch.zeros_like(probe)
    optimizer = config.build(probe)
    optimizer.step()
    return {
        name: torch.zeros(weights.shape if x.dim() else (), dtype=torch.float32)
        for name, x in optimizer.state[probe].items()
        if isinstance(x, Tensor)
    }


class WeightOptimizer:
    """Steps on a weight vector [P]; a step may leave out the vector's first entries and their moving averages."""

    def __init__(
        self,
        config: OptimizerConfig,
        weights: Tensor,
        gradient: Tensor,
        *,
        delayed: int = 0,
        statistics: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Steps follow `gradient` [P]; `delayed` is the number of entries that a step may leave out.

        `statistics` are the moving averages by name; they begin at zero where none are given.
        """
        spans = {"delayed.": slice(0, delayed), "": slice(delayed, None)} if delayed else {"": slice(None)}
        self._spans = spans
        self._parts = {prefix: torch.nn.Parameter(weights[span]) for prefix, span in spans.items()}
        self._gradients = {prefix: gradient[span] for prefix, span in spans.items()}
        self._optimizer = config.build(*self._parts.values())
        if statistics:
            self.restore(statistics)

    def step(self, learning_rate: float, *, delay: bool = False) -> None:
        """Take a step; with `delay` the delayed entries stay as they are."""
        for prefix, part in self._parts.items():
            part.grad = None if delay and prefix else self._gradients[prefix]
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        self._optimizer.step()

    def state(self) -> dict[str, Tensor]:
        """Return the moving averages [P] and the counters of steps (scalars) by name; {} before the first step."""
        found = {name: x for name, x in self._optimizer.state[self._parts[""]].items() if isinstance(x, Tensor)}
        if "delayed." not in self._parts or not found:
            return found
        delayed = self._parts["delayed."].detach()
        for name, x in tuple(found.items()):
            zeros = torch.zeros_like(delayed if x.dim() else x)
            first = self._optimizer.state[self._parts["delayed."]].get(name, zeros)
            found |= {name: torch.cat([first, x])} if x.dim() else {f"delayed.{name}": first}
        return found

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Continue from a saved `state`, of which tensors on the device of the weights are used without copying."""
        is_fused = self._optimizer.param_groups[0].get("fused")  # torch keeps other counters of steps on the CPU
        for prefix, part in self._parts.items():
            averages = {name: x[self._spans[prefix]].to(part.device) for name, x in state.items() if x.dim()}
            names = [name for name, x in state.items() if not x.dim() and name.startswith("delayed.") == bool(prefix)]
            counters = {name.removeprefix(prefix): state[name].to(part.device if is_fused else "cpu") for name in names}
            self._optimizer.state[part] = averages | counters


def clip_(config: OptimizerConfig, gradient: Tensor, tensors: Sequence[Tensor]) -> Tensor:
    """Clip `gradient` [P] in place and return its norm before, a scalar.

    `tensors` are the views of `gradient` that belong to the single parameters.
    """
    norm: Tensor = gradient.norm()
    max_norm = config.max_gradient_norm
    match config.gradient_clipping:
        case GradientClipping.GLOBAL:
            gradient.mul_((max_norm / (norm + 1e-6)).clamp(max=1.0))
        case GradientClipping.TENSOR | GradientClipping.AVERAGE as kind:
            for tensor in tensors:
                own_norm = tensor.norm() / (tensor.numel() if kind is GradientClipping.AVERAGE else 1)
                tensor.mul_((max_norm / (own_norm + 1e-12)).clamp(max=1.0))
    return norm


class RMSprop(torch.optim.Optimizer):
    """RMSProp with ε inside the square root (Mnih et al. 2016, equation 8).

        g ← α·g + (1 − α)·Δθ²,  θ ← θ − η·Δθ / √(g + ε)

    `torch.optim.RMSprop` adds ε outside the square root, which gives other step sizes for an ε as large as the paper's
    0.1. The average g starts at 0; TensorFlow's starts at 1. One learner holds g, so it is shared by all actors, as in
    the paper's Shared RMSProp.
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float, alpha: float = 0.99, eps: float = 0.1) -> None:
        super().__init__(parameters, {"lr": lr, "alpha": alpha, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        assert closure is None
        for group in self.param_groups:
            for parameter in group["params"]:
                gradient, state = parameter.grad, self.state[parameter]
                if gradient is None:
                    continue
                if not state:
                    state["square_average"] = torch.zeros_like(parameter)
                average = state["square_average"]
                average.mul_(group["alpha"]).addcmul_(gradient, gradient, value=1 - group["alpha"])
                parameter.addcdiv_(gradient, (average + group["eps"]).sqrt_(), value=-group["lr"])
