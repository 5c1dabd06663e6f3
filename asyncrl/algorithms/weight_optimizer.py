"""Steps of the optimizers on a network's weights, which are one vector.

They call the functions behind `torch.optim`'s classes. The classes themselves import torch's compiler, which takes a
second, and look up groups and hooks in every step.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.radam import radam
from torch.optim.rmsprop import rmsprop
from torch.optim.sgd import sgd

from asyncrl.algorithms.optimizers import Optimizer, OptimizerConfig

__all__ = ["WeightOptimizer", "initial_state", "optimizer_step"]

_AVERAGES: dict[Optimizer, tuple[str, ...]] = {
    Optimizer.RMSPROP: ("square_average",),
    Optimizer.RMSPROP_OUTSIDE: ("square_avg",),
    Optimizer.ADAM: ("exp_avg", "exp_avg_sq"),
    Optimizer.RADAM: ("exp_avg", "exp_avg_sq"),
    Optimizer.SGD: (),
}
"""Names of the moving averages, except the momentum."""
_COUNTING = (Optimizer.RMSPROP_OUTSIDE, Optimizer.ADAM, Optimizer.RADAM)
"""Optimizers that count their steps."""
_WITH_MOMENTUM = (Optimizer.RMSPROP_OUTSIDE, Optimizer.SGD)
"""Optimizers with a moving average of gradients if `momentum` is not 0."""


def initial_state(config: OptimizerConfig, weights: Tensor) -> dict[str, Tensor]:
    """Return the state of the optimizer of `weights` [P] before its first step.

    These are zeros: moving averages [P] on the device of the weights, and the number of steps, a scalar, by name.
    """
    kind = config.optimizer
    names = _AVERAGES[kind] + (("momentum_buffer",) if kind in _WITH_MOMENTUM and config.momentum else ())
    counter = torch.zeros((), dtype=torch.float32, device=_counting_device(config, weights))
    counted = {"step": counter} if kind in _COUNTING else {}
    return counted | {name: torch.zeros_like(weights) for name in names}


def optimizer_step(
    config: OptimizerConfig, weights: Tensor, gradient: Tensor, state: Mapping[str, Tensor], learning_rate: float
) -> None:
    """Take a step on `weights` [P] along `gradient` [P], both float32. Changes `weights` and `state` in place."""
    common: dict[str, Any] = dict(lr=learning_rate, weight_decay=0.0, maximize=False)
    counted = dict(common, eps=config.optimizer_epsilon)
    momentum = config.momentum or 0.0
    buffer: list[Any] = [state["momentum_buffer"]] if "momentum_buffer" in state else []
    match config.optimizer:
        case Optimizer.RMSPROP:
            _rmsprop_inside(config, weights, gradient, state["square_average"], learning_rate)
        case Optimizer.RMSPROP_OUTSIDE:
            averages = [state["square_avg"]]
            rmsprop(
                [weights], [gradient], averages, [], buffer, [state["step"]],
                alpha=config.decay, momentum=momentum, centered=False, **counted,
            )  # fmt: skip
        case Optimizer.ADAM | Optimizer.RADAM as kind:
            moments = [state["exp_avg"]], [state["exp_avg_sq"]]
            beta1, beta2 = config.betas
            if kind is Optimizer.ADAM:
                adam(
                    [weights], [gradient], *moments, [], [state["step"]],
                    fused=True, amsgrad=False, beta1=beta1, beta2=beta2, **counted,
                )  # fmt: skip
            else:
                radam([weights], [gradient], *moments, [state["step"]], beta1=beta1, beta2=beta2, **counted)
        case Optimizer.SGD:
            sgd([weights], [gradient], buffer or [None], momentum=momentum, dampening=0.0, nesterov=False, **common)


def _rmsprop_inside(
    config: OptimizerConfig, weights: Tensor, gradient: Tensor, average: Tensor, learning_rate: float
) -> None:
    """RMSProp with ε inside the square root (Mnih et al. 2016, section 4).

        g ← α·g + (1 − α)·Δθ²,  θ ← θ − η·Δθ / √(g + ε)

    `torch.optim.RMSprop` adds ε outside the square root, which gives other step sizes for an ε as large as the paper's
    0.1. The average g starts at 0; TensorFlow's starts at 1. One learner holds g, so it is shared by all actors, as in
    the paper's Shared RMSProp.
    """
    average.mul_(config.decay).addcmul_(gradient, gradient, value=1 - config.decay)
    weights.addcdiv_(gradient, (average + config.optimizer_epsilon).sqrt_(), value=-learning_rate)


def _counting_device(config: OptimizerConfig, weights: Tensor) -> torch.device:
    """Where the number of steps is: fused Adam wants it beside the weights, the others on the CPU."""
    return weights.device if config.optimizer is Optimizer.ADAM else torch.device("cpu")


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
        self._config = config
        self._spans = {"delayed.": slice(0, delayed), "": slice(delayed, None)} if delayed else {"": slice(None)}
        self._weights = {prefix: weights.detach()[span] for prefix, span in self._spans.items()}
        self._gradients = {prefix: gradient[span] for prefix, span in self._spans.items()}
        self._states = {prefix: initial_state(config, part) for prefix, part in self._weights.items()}
        if statistics:
            self.restore(statistics)

    @torch.no_grad()
    def step(self, learning_rate: float, *, delay: bool = False) -> None:
        """Take a step; with `delay` the delayed entries stay as they are."""
        for prefix, weights in self._weights.items():
            if not (delay and prefix):
                optimizer_step(self._config, weights, self._gradients[prefix], self._states[prefix], learning_rate)

    def state(self) -> dict[str, Tensor]:
        """Return the moving averages [P] and the numbers of steps (scalars) by name."""
        found = {}
        for name, x in self._states[""].items():
            if x.dim():
                found[name] = torch.cat([own[name] for own in self._states.values()]) if len(self._states) > 1 else x
            else:
                found |= {f"{prefix}{name}": own[name] for prefix, own in self._states.items()}
        return found

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Continue from a saved `state`, of which tensors on the device of the weights are used without copying.

        {} is the state before the first step.
        """
        for prefix, weights in self._weights.items():
            own = self._states[prefix] = initial_state(self._config, weights)
            for name, x in own.items():
                saved = state.get(name if x.dim() else f"{prefix}{name}")
                if saved is not None:
                    own[name] = (saved[self._spans[prefix]] if x.dim() else saved).to(x.device)
