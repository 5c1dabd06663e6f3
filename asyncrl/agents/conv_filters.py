"""A picture of the filters of the first convolution."""

from __future__ import annotations

import contextlib
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import torch
from torch import Tensor

from asyncrl.acting.episodes import SingleEnv
from asyncrl.algorithms import Policy
from asyncrl.common.randomness import Stream, environment_seeds
from asyncrl.common.serialization import write_atomically
from asyncrl.envs import Contract
from asyncrl.errors import UsageError

__all__ = ["draw_filters", "first_layer"]

_SCALE = 6
"""Pixels of the picture per kernel weight."""
_GAP = 4
"""Pixels between kernels."""
_WARM_UP_STEPS = 60
"""Random steps before the observation that the filters are applied to."""


def draw_filters(policy: Policy, contract: Contract, path: Path) -> None:
    """Write a PNG with a row per filter: its kernel for each stacked frame, then its activation on one observation.

    Kernels are scaled by their largest weight; gray is zero. Raises UsageError for a network without convolutions.
    """
    if path.suffix != ".png":
        raise UsageError(f"--filters {path}: the file must end in .png")
    result = first_layer(policy, contract)
    if result is None:
        raise UsageError("--filters: this network has no convolutions")
    kernels, activations = result
    write_atomically(path, imageio.imwrite("<bytes>", _sheet(kernels, activations), extension=".png"))


def first_layer(policy: Policy, contract: Contract) -> tuple[Tensor, Tensor] | None:
    """Return the first convolution's kernels [F, C, k, k] and feature maps [F, h, w] of an observation, both float32.

    None for networks without convolutions.
    """
    return policy.first_convolution(_observation(contract))


def _observation(contract: Contract) -> Tensor:
    """Return an observation [1, *O] after some random actions."""
    random = np.random.default_rng(1)
    with contextlib.closing(SingleEnv(contract)) as env:
        (seed,) = environment_seeds(1, Stream.EVALUATION, 1)
        observation = env.reset(seed)
        for _ in range(_WARM_UP_STEPS):
            observation = env.step(contract.spaces.random_actions(random, observation)).observation
    return torch.from_numpy(observation)


def _sheet(kernels: Tensor, activations: Tensor) -> np.ndarray:
    """Return the picture [H, W] uint8 of kernels [F, C, k, k] and activations [F, h, w]."""
    max_weight = kernels.abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-12)
    kernel_pictures = ((kernels / max_weight + 1) * 127.5).numpy()
    max_activation = activations.amax((1, 2), keepdim=True).clamp(min=1e-12)
    activation_pictures = (255 * activations / max_activation).numpy()
    side = kernels.shape[-1] * _SCALE
    rows = []
    for kernel, activation in zip(kernel_pictures, activation_pictures, strict=True):
        tiles = [_enlarge(frame, _SCALE) for frame in kernel]
        tiles.append(_enlarge(activation, max(1, side // activation.shape[0])))
        rows.append(_join(tiles, axis=1))
    return _join(rows, axis=0).astype(np.uint8)


def _enlarge(picture: np.ndarray, factor: int) -> np.ndarray:
    return np.kron(picture, np.ones((factor, factor)))


def _join(tiles: list[np.ndarray], axis: int) -> np.ndarray:
    """Join pictures side by side (axis 1) or below each other (axis 0), with white gaps."""
    size = max(tile.shape[1 - axis] for tile in tiles)
    padded = []
    for tile in tiles:
        missing = size - tile.shape[1 - axis]
        widths = [(0, missing), (0, _GAP)] if axis else [(0, _GAP), (0, missing)]
        padded.append(np.pad(tile, widths, constant_values=255))
    return np.concatenate(padded, axis)
