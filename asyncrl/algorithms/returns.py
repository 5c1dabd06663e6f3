"""Multi-step returns and advantages from one backward recursion, and means over a batch and its valid steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from asyncrl.common.recorded import is_recording
from asyncrl.common.sharding import masked_mean, mean

__all__ = ["masked_mean", "mean", "multistep_errors", "normalize"]

_ROUNDING = 1e-6
"""Bound of the rounding error of a mean, relative to the mean."""


def multistep_errors(
    reward: Tensor,
    discount: Tensor,
    value: Tensor,
    valid: Tensor,
    trace: Tensor | float = 1.0,
    weight: Tensor | float = 1.0,
) -> Tensor:
    """Return the multi-step temporal-difference errors E of a rollout.

        δ_t = r_t + γ_t·V_{t+1} − V_t
        E_t = w_t·δ_t + γ_t·c_t·E_{t+1},  E_T = 0

    E is an advantage, and V + E the return that it is the advantage of. The trace coefficient c and the weight w
    select the method; ρ_t = π(a_t|s_t) / μ(a_t|s_t), with μ the policy that acted:

    ==============================================  ============  =========
    method                                          c             w
    ==============================================  ============  =========
    one-step TD error                               0             1
    n-step return (Mnih et al. 2016, algorithm S3)  1             1
    GAE(λ) (Schulman et al. 2016, equation 16)      λ             1
    V-trace (Espeholt et al. 2018, equation 1)      λ·min(c̄, ρ)   min(ρ̄, ρ)
    ==============================================  ============  =========

    - c = 0: the sum ends after one term, E_t = δ_t, and V + E = r_t + γ·V_{t+1}.
    - c = 1: the values between cancel out, and V + E = r_t + γ·r_{t+1} + … + γ^(T−t)·V_T, the longest return that
      the rollout allows.
    - c = λ: E_t = Σ_k (γλ)^k·δ_{t+k}, the exponentially weighted average of all n-step advantages.
    - c = λ·min(c̄, ρ), w = min(ρ̄, ρ): the GAE sum with truncated importance weights, for rollouts of an older policy.

    With V = max_a Q(s, a) or V = Q(s, a), the same recursion gives the targets of Q-learning and SARSA.

    A terminated step has γ_t = 0. Truncation needs no special case: the step after it is a reset step, whose
    observation is the episode's last one and whose error is 0, so the truncated step's return is r_t + γ·V_{t+1}.

    Args:
        reward: [T, N] float32.
        discount: [T, N] float32, γ; 0 where the step terminated.
        value: [T+1, N] float32, with row T the bootstrap value.
        valid: [T, N] bool, False on reset steps and padding.
        trace: c, a number or [T, N].
        weight: w, a number or [T, N].

    Returns:
        E, [T, N] float32; 0 where `valid` is False.
    """
    delta = weight * (reward + discount * value[1:] - value[:-1])
    decay = discount * trace
    if delta.device.type == "cpu" and not (delta.requires_grad or decay.requires_grad or is_recording()):
        return _summed_back_on_cpu(delta, decay, valid)
    return _summed_back(delta, decay, valid)


def _summed_back(delta: Tensor, decay: Tensor, valid: Tensor) -> Tensor:
    """Return E_t = delta_t + decay_t·E_{t+1} with E_T = 0, and 0 where not `valid`; all are [T, N]."""
    none = torch.zeros_like(delta[0])
    errors = [none]
    for own, factor, is_valid in reversed(list(zip(delta.unbind(), decay.unbind(), valid.unbind(), strict=True))):
        errors.append(torch.where(is_valid, own + factor * errors[-1], none))
    return torch.stack(errors[:0:-1])


def _summed_back_on_cpu(delta: Tensor, decay: Tensor, valid: Tensor) -> Tensor:
    """Return what `_summed_back` does, bit for bit: NumPy's calls take a fifth of the time of torch's."""
    errors = torch.empty_like(delta)
    rows = zip(errors.numpy(), delta.numpy(), decay.numpy(), (~valid).numpy(), strict=True)
    error: Any = np.float32(0)
    with np.errstate(all="ignore"):  # diverged values are reported by the learner
        for row, own, factor, invalid in reversed(list(rows)):
            np.multiply(factor, error, out=row)
            np.add(own, row, out=row)
            np.copyto(row, 0, where=invalid)
            error = row
    return errors


def normalize(x: Tensor, valid: Tensor) -> Tensor:
    """Return `x` [T, N] shifted and scaled to mean 0 and (population) standard deviation 1 over `valid` [T, N].

    If all are equal up to rounding, they become 0.
    """
    mean = masked_mean(x, valid)
    deviation = masked_mean((x - mean).square(), valid).sqrt()
    return torch.where(deviation <= _ROUNDING * mean.abs(), 0.0, (x - mean) / (deviation + 1e-8))
