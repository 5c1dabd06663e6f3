"""Multi-step targets: one backward recursion that every method is a case of."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["masked_mean", "multistep_errors"]


def multistep_errors(
    reward: Tensor,
    discount: Tensor,
    value: Tensor,
    valid: Tensor,
    trace: Tensor | float = 1.0,
    weight: Tensor | float = 1.0,
) -> Tensor:
    """E_t = w_t·δ_t + γ_t·c_t·E_{t+1} on valid steps and 0 on reset steps, δ_t = r_t + γ_t·V_{t+1} − V_t.

    `reward`, `discount` (γ, 0 where terminated), `valid` are [T, B], `value` is [T+1, B]; the result
    is [T, B] float32. The target is E + V.

    ======================================  ==========  =========
    method                                  trace c     weight w
    ======================================  ==========  =========
    n-step return (Mnih et al. 2016, S3)    1           1
    GAE(λ) (Schulman et al. 2016, eq. 16)   λ           1
    V-trace (Espeholt et al. 2018, eq. 1)   λ·min(1,ρ)  min(ρ̄,ρ)
    one-step                                0           1
    ======================================  ==========  =========

    Truncation needs no case of its own: the step after it is a reset step whose error is 0, so the
    target of the truncated step is r + γ·V(true last observation).
    """
    delta = weight * (reward + discount * value[1:] - value[:-1])
    decay = discount * trace
    errors = torch.empty_like(reward)
    error = torch.zeros_like(value[0])
    for t in range(len(reward) - 1, -1, -1):
        error = torch.where(valid[t], delta[t] + decay[t] * error, 0.0)
        errors[t] = error
    return errors


def masked_mean(x: Tensor, valid: Tensor) -> Tensor:
    """The mean over valid steps, both [T, B]; 0 where there is none."""
    return torch.where(valid, x, 0.0).sum() / valid.sum().clamp(min=1)
