"""What the first convolution looks for, as a picture."""

from __future__ import annotations

from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import torch
from torch import Tensor

from asyncrl.algorithms import Policy
from asyncrl.common.randomness import Stream, environment_seeds
from asyncrl.envs import Contract, Environments
from asyncrl.errors import UsageError

__all__ = ["draw_filters"]

_PIXEL, _GAP = 6, 4  # pixels of the picture for one of a kernel, and between kernels
_WARM_UP = 60  # steps after which the game has begun


def draw_filters(policy: Policy, contract: Contract, path: Path) -> None:
    """Write a PNG: a row for every filter, its kernel for each frame of the stack, then what it answers to a game.

    Kernels are scaled to their own largest weight (gray is zero). Raises UsageError for a network without convolutions.
    """
    if path.suffix != ".png":
        raise UsageError(f"--filters {path}: the ending must be .png")
    seen = policy.first_convolution(_scene(contract))
    if seen is None:
        raise UsageError("--filters: this network has no convolutions")
    imageio.imwrite(path, _sheet(*seen))


def _scene(contract: Contract) -> Tensor:
    """One observation [1, *O] from the middle of a game of random actions."""
    environments = Environments(contract, 1, training=False)
    random = np.random.default_rng(1)
    observation = environments.reset(environment_seeds(1, Stream.EVALUATION, 1))
    for _ in range(_WARM_UP):
        observation = environments.step(contract.spaces.actions.random(random, 1)).observation
    environments.close()
    return torch.from_numpy(observation)


def _sheet(kernels: Tensor, answers: Tensor) -> np.ndarray:
    """[H, W] uint8 of kernels [F, C, k, k] and answers [F, h, w]."""
    largest = kernels.abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-12)
    gray = ((kernels / largest + 1) * 127.5).numpy()
    bright = (255 * answers / answers.amax((1, 2), keepdim=True).clamp(min=1e-12)).numpy()
    side = kernels.shape[-1] * _PIXEL
    rows = []
    for kernel, answer in zip(gray, bright, strict=True):
        tiles = [_enlarged(frame, _PIXEL) for frame in kernel]
        tiles.append(_enlarged(answer, max(1, side // answer.shape[0])))
        rows.append(_joined(tiles, axis=1))
    return _joined(rows, axis=0).astype(np.uint8)


def _enlarged(picture: np.ndarray, times: int) -> np.ndarray:
    return np.kron(picture, np.ones((times, times)))


def _joined(tiles: list[np.ndarray], axis: int) -> np.ndarray:
    """Tiles side by side (1) or below each other (0), white between them."""
    across = max(tile.shape[1 - axis] for tile in tiles)
    padded = []
    for tile in tiles:
        missing = across - tile.shape[1 - axis]
        spread = [(0, missing), (0, _GAP)] if axis else [(0, _GAP), (0, missing)]
        padded.append(np.pad(tile, spread, constant_values=255))
    return np.concatenate(padded, axis)
