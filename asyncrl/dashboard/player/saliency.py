"""Which parts of an observation the network's outputs depend on, by perturbation (Greydanus et al. 2018).

An image is blurred around one place at a time; the saliency of the place is ½‖π(I) − π(I′)‖² (equation 2), where π are
logits, action values or means of actions, and ½‖V(I) − V(I′)‖² for the value. A number is moved by its standard
deviation so far; its sensitivity is ‖π(x) − π(x′)‖.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from asyncrl.algorithms import Policy
from asyncrl.algorithms.policy import NetworkOutputs
from asyncrl.dashboard.player.outputs import compared
from asyncrl.envs.spaces import Entry, Spaces
from asyncrl.networks import PolicyValue

__all__ = ["Saliency", "Spread", "is_picture", "join", "numbers", "saliency"]

_PLACES = 14
"""Places per side at which an image is perturbed."""
_BLUR = 3.0
"""Standard deviation in pixels of the blur of an image of 84 pixels, as in the paper; larger images get more."""
_RADIUS = 5.0
"""Standard deviation in pixels of the perturbed place."""
_BATCH = 64
_BATCH_NUMBERS = 2**24
"""Numbers of a batch of perturbed observations, which limits its memory."""
_MAX_NUMBERS = 256


@dataclass(frozen=True)
class Saliency:
    """Saliency of one observation."""

    maps: dict[str, np.ndarray] = field(default_factory=dict)
    """[h, w] float32 ≥ 0 by what changes: "policy" and, if the network has one, "value"."""
    numbers: dict[str, float] = field(default_factory=dict)
    """Sensitivity by the number's name."""


class Spread:
    """The standard deviation of every number of the observations seen so far."""

    def __init__(self) -> None:
        self._count, self._mean, self._squares = 0, np.zeros(0), np.zeros(0)

    def add(self, numbers: np.ndarray) -> None:
        """Add one observation's numbers, [K]."""
        if len(self._mean) != len(numbers):
            self._count, self._mean, self._squares = 0, np.zeros(len(numbers)), np.zeros(len(numbers))
        self._count += 1
        error = numbers - self._mean
        self._mean = self._mean + error / self._count
        self._squares = self._squares + error * (numbers - self._mean)

    def of(self, numbers: np.ndarray) -> np.ndarray:
        """Return the deviations [K]; a hundredth of its size for a number that has not changed yet."""
        squares = self._squares if len(self._squares) == len(numbers) else np.zeros(len(numbers))
        deviation = np.sqrt(squares / max(1, self._count))
        return np.where(deviation > 0, deviation, 0.01 * np.maximum(1.0, np.abs(numbers)))


def join(spaces: Spaces, parts: list[np.ndarray]) -> np.ndarray:
    """Return the observations [N, *O] with these parts; the inverse of `Spaces.split`."""
    if not spaces.entries:
        return parts[0]
    leading = len(spaces.observation_shape)  # the bytes are the last axis
    flat = [np.ascontiguousarray(x).reshape(*x.shape[:leading], -1).view(np.uint8) for x in parts]
    return np.concatenate(flat, -1)


def is_picture(entry: Entry) -> bool:
    """Whether a part of an observation has height and width: an image, or the cells of a grid."""
    return entry.is_image or (len(entry.shape) >= 3 and entry.dtype == "uint8" and min(entry.shape[-2:]) >= 3)


def numbers(spaces: Spaces, observation: np.ndarray) -> dict[str, float]:
    """Return the numbers of one `observation` [1, *O] by name, without images and action mask, at most 256 of each part."""
    named: dict[str, float] = {}
    for entry, x in _unmasked(spaces, observation):
        if is_picture(entry):
            continue
        flat = x.reshape(-1)[:_MAX_NUMBERS] + entry.first
        single = entry.name and x.size == 1
        name = entry.name or "observation"
        named |= {name if single else f"{name}[{i}]": float(number) for i, number in enumerate(flat)}
    return named


def saliency(policy: Policy, spaces: Spaces, observation: np.ndarray, state: Tensor, spread: Spread) -> Saliency | None:
    """Return the saliency of one `observation` [1, *O], given the recurrent `state` [1, S] before it.

    An observation with images gets a map of its first one, others get sensitivities; `spread` is that of `numbers`.
    Returns None for a network whose outputs have no form to compare.
    """
    probe = _Probe(policy, spaces, spaces.split(observation), state)
    if compared(probe.before) is None:
        return None
    parts = _unmasked(spaces, observation)
    for index, (entry, x) in enumerate(parts):
        if is_picture(entry):
            return _map(probe, index, entry, x)
    named = numbers(spaces, observation)
    deviation = spread.of(np.array(list(named.values())))
    sensitivities: list[float] = []
    for index, (entry, x) in enumerate(parts):
        moved = _moved(entry, x, deviation[len(sensitivities) :])
        change, _ = probe.changes(index, len(moved), lambda wanted, moved=moved: moved[wanted])  # type: ignore[misc]
        sensitivities += np.sqrt(2 * change).tolist()
    return Saliency(numbers=dict(zip(named, sensitivities, strict=True)))


def _unmasked(spaces: Spaces, observation: np.ndarray) -> list[tuple[Entry, np.ndarray]]:
    parts = list(zip(spaces.parts, spaces.split(observation), strict=True))
    return parts[:-1] if spaces.is_masked else parts


class _Probe(NamedTuple):
    """A policy and the observation that is perturbed."""

    policy: Policy
    spaces: Spaces
    parts: list[np.ndarray]
    state: Tensor

    @property
    def before(self) -> NetworkOutputs:
        return self.policy.outputs(torch.from_numpy(join(self.spaces, self.parts)), self.state)

    def changes(
        self, index: int, count: int, perturbed: Callable[[np.ndarray], np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Return ½‖Δπ‖² and ½‖ΔV‖², [count] each, with part `index` replaced.

        `perturbed` takes indices [N] below `count` and returns the values [N, …, *shape] of the part.
        """
        before = self.before
        reference = compared(before)
        of_policy, of_value = [], []
        batch = max(1, min(_BATCH, _BATCH_NUMBERS // self.parts[index].size))
        for start in range(0, count, batch):
            values = perturbed(np.arange(start, min(start + batch, count)))
            others = [np.repeat(x, len(values), 0) for x in self.parts]
            others[index] = values
            state = self.state.expand(len(values), -1).contiguous()
            after = self.policy.outputs(torch.from_numpy(join(self.spaces, others)), state)
            x = compared(after)
            assert x is not None
            assert reference is not None
            of_policy.append(0.5 * (x - reference).float().square().sum(-1))
            if isinstance(before, PolicyValue) and isinstance(after, PolicyValue):
                of_value.append(0.5 * (after.value[0] - before.value[0]).float().square())
        return torch.cat(of_policy).numpy(), torch.cat(of_value).numpy() if of_value else None


def _map(probe: _Probe, index: int, entry: Entry, image: np.ndarray) -> Saliency:
    """Return the saliency map of `image` [1, …, H, W]: places are blurred, or cells of small images set to zero."""
    height, width = entry.shape[-2:]
    is_small = min(height, width) < 2 * _PLACES
    grid = (height, width) if is_small else (_PLACES, _PLACES)
    perturbed = _occlusion(image) if is_small else _blurring(image)
    change, of_value = probe.changes(index, grid[0] * grid[1], perturbed)
    maps = {"policy": change.reshape(grid)}
    return Saliency(maps if of_value is None else maps | {"value": of_value.reshape(grid)})


def _blurring(image: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that gives copies of `image` [1, …, H, W], each blurred around one place of the grid."""
    height, width = image.shape[-2:]
    scale = min(height, width) / 84
    sharp = torch.from_numpy(image).float()
    soft = _gaussian_blur(sharp.reshape(-1, 1, height, width), _BLUR * scale).reshape(sharp.shape)
    rows, columns = (torch.linspace(0, size - 1, _PLACES) for size in (height, width))
    y = torch.exp(-0.5 * ((torch.arange(height)[None] - rows[:, None]) / (_RADIUS * scale)) ** 2)
    x = torch.exp(-0.5 * ((torch.arange(width)[None] - columns[:, None]) / (_RADIUS * scale)) ** 2)

    def at(places: np.ndarray) -> np.ndarray:
        mask = y[places // _PLACES, :, None] * x[places % _PLACES, None, :]
        mask = mask.view(-1, *(1,) * (sharp.dim() - 3), height, width)
        mixed = (sharp * (1 - mask) + soft * mask).numpy()
        if image.dtype.kind == "f":
            return np.asarray(mixed.astype(image.dtype))
        return np.asarray(mixed.round().clip(0, np.iinfo(image.dtype).max).astype(image.dtype))

    return at


def _gaussian_blur(images: Tensor, deviation: float) -> Tensor:
    """Blur `images` [N, 1, H, W]."""
    radius = max(1, min(round(3 * deviation), min(images.shape[-2:]) - 1))
    weights = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / deviation) ** 2)
    weights = (weights / weights.sum()).float()
    padded = F.pad(images, (radius,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(padded, weights.view(1, 1, 1, -1)), weights.view(1, 1, -1, 1))


def _occlusion(image: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that gives copies of a small `image` [1, …, H, W] with one cell each set to zero."""
    width = image.shape[-1]

    def at(cells: np.ndarray) -> np.ndarray:
        copies = np.repeat(image, len(cells), 0)
        for copy, cell in zip(copies, cells, strict=True):
            copy[..., cell // width, cell % width] = 0
        return copies

    return at


def _moved(entry: Entry, x: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """Return copies of `x` [1, …] with one number each moved by its `deviation`, or to the next choice."""
    flat = x.reshape(-1)
    count = min(flat.size, _MAX_NUMBERS)
    copies = np.repeat(flat[None], count, 0)
    every = np.arange(count)
    if entry.choices:
        copies[every, every] = (flat[:count] + 1) % entry.choices
    elif flat.dtype.kind == "f":
        copies[every, every] = flat[:count] + deviation[:count]
    else:
        step = np.maximum(1, deviation[:count].round()).astype(np.int64)
        limit = np.iinfo(flat.dtype).max
        moved = flat[:count].astype(np.int64)
        copies[every, every] = np.where(moved <= limit - step, moved + step, moved - step).astype(flat.dtype)
    return copies.reshape(count, *x.shape[1:])
