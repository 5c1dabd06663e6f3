"""Optimizers that torch does not have."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

__all__ = ["RMSprop"]


class RMSprop(torch.optim.Optimizer):
    """RMSProp with epsilon *inside* the square root (Mnih et al. 2016, equation 8).

    ``g ← α·g + (1 − α)·Δθ²``, ``θ ← θ − η·Δθ / √(g + ε)``. `torch.optim.RMSprop` adds ε outside,
    which is another step size where ε is as large as the paper's 0.1. There is one learner, so the
    statistics `g` are shared among all actors by construction (the paper's "Shared RMSProp").
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
