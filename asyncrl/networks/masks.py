"""Action masks in networks: read from observations, and applied to what the heads compute."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from asyncrl.envs.spaces import Spaces

__all__ = ["MaskReader", "allowed", "finite", "mask_out"]


class MaskReader:
    """Splits observations […, *O] that contain an action mask."""

    def __init__(self, spaces: Spaces) -> None:
        self._features = spaces.features
        self._frames = spaces.observation_shape[:-1]
        self._choices = spaces.actions.choices
        self._count = sum(self._choices)

    def features(self, observation: Tensor) -> Tensor:
        """Return the observations as encoders see them, […, *F] with F the shape of `Spaces.features`."""
        x = observation[..., : -self._count]
        if self._features.entries:
            return x
        shape, dtype = self._features.observation_shape, getattr(torch, self._features.observation_dtype)
        leading = x.shape[: -1 - len(self._frames)]
        if dtype is not torch.uint8:
            x = x.clone(memory_format=torch.contiguous_format).view(dtype)  # aligned
        return x.reshape(*leading, *shape)

    def legal(self, observation: Tensor) -> Tensor:
        """Return which choices are allowed, […, Σ choices] bool.

        A part of an action without any allowed choice counts as unrestricted: so are padding and, in many environments, an
        episode's last observation.
        """
        newest = observation[..., -1, :] if self._frames else observation
        return allowed(newest[..., -self._count :], self._choices)


def allowed(mask: Tensor, choices: Sequence[int]) -> Tensor:
    """Return which choices a `mask` of numbers […, Σ choices] allows, as `MaskReader.legal` does."""
    parts = [part | ~part.any(-1, keepdim=True) for part in torch.split(mask != 0, list(choices), -1)]
    return parts[0] if len(parts) == 1 else torch.cat(parts, -1)


def mask_out(x: Tensor, legal: Tensor | None) -> Tensor:
    """Return logits or action values `x` with the dtype's lowest number where not `legal`; `x` itself for None.

    The lowest finite number, unlike −∞, keeps 0·x, entropies and losses finite (compare Huang and Ontañón 2022,
    "A Closer Look at Invalid Action Masking in Policy Gradient Algorithms").
    """
    return x if legal is None else torch.where(legal, x, torch.finfo(x.dtype).min)


def finite(x: Tensor) -> Tensor:
    """Return logits or action values `x` to choose from, with finite numbers in place of those of a diverged network.

    They are above what `mask_out` writes, so only allowed choices are taken. The learner reports the divergence.
    """
    return x.nan_to_num(0.0, neginf=torch.finfo(x.dtype).min / 2)
