"""The filters of the first convolution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from asyncrl.agents.agent import load
from asyncrl.agents.conv_filters import first_layer
from asyncrl.errors import UsageError
from asyncrl.plots.sources import PlottedRun
from asyncrl.plots.style import INK, MUTED, NORMAL, SMALL, note

__all__ = ["Filters", "draw_filters", "filters_of"]

_MOST = 16
"""Filters of a network that are drawn."""


class Filters(NamedTuple):
    """The first layer of a run's network."""

    name: str
    """The run's."""
    inputs: list[str]
    """Names of the C input channels."""
    kernels: np.ndarray
    """[F, C, k, k] float32"""
    activations: np.ndarray
    """[F, h, w] float32"""


def filters_of(runs: Sequence[PlottedRun], *, trust: bool) -> list[Filters]:
    """The first layer of every run whose network has convolutions. Raises UsageError if none has.

    The best agent of a run is loaded, and its environment is made for the observation that the filters are applied to.
    """
    found: list[Filters] = []
    for run in runs:
        agent = load(run.path, trust=trust)
        layer = first_layer(agent.policy, agent.contract)
        if layer is not None:
            kernels, activations = layer
            stack = agent.contract.frame_stack
            found.append(Filters(run.name, input_names(kernels.shape[1], stack), kernels.numpy(), activations.numpy()))
    if not found:
        raise UsageError(f"{', '.join(run.name for run in runs)}: no network of these runs has convolutions to draw")
    return found


def input_names(channels: int, stack: int) -> list[str]:
    """What each input channel of a network is that sees `stack` frames, or the differences of so many."""
    frames = next((count for count in (stack, stack - 1) if count > 0 and channels % count == 0), 1)
    times = ["frame t" if age == 0 else f"frame t − {age}" for age in reversed(range(frames))]
    each = channels // frames
    if each == 1:
        return times
    if frames == 1:
        return [f"channel {number}" for number in range(1, each + 1)]
    return [f"{time}, channel {number}" for time in times for number in range(1, each + 1)]


def draw_filters(figure: Any, found: Sequence[Filters]) -> None:
    """A block per run: a column per filter with its kernel for every input channel, and its activation."""
    blocks = figure.subfigures(len(found), 1, squeeze=False)[:, 0]
    for block, (name, inputs, kernels, activations) in zip(blocks, found, strict=True):
        kernels, activations = kernels[:_MOST], activations[:_MOST]
        count = len(kernels)
        block.suptitle(name, x=0.01, ha="left", fontsize=NORMAL, fontweight="bold", color=INK)
        grid = block.subplots(len(inputs) + 1, count, squeeze=False)
        for column in range(count):
            limit = float(np.abs(kernels[column]).max()) or 1.0
            for row, kernel in enumerate(kernels[column]):
                grid[row][column].imshow(kernel, cmap="PuOr", vmin=-limit, vmax=limit)
            grid[-1][column].imshow(activations[column], cmap="gray")
        for row, text in enumerate([*inputs, "activation"]):
            grid[row][0].set_ylabel(text, rotation=0, ha="right", va="center", fontsize=SMALL, color=MUTED)
            for axes in grid[row]:
                axes.set(xticks=[], yticks=[])
                axes.spines[:].set_visible(False)
    note(
        figure, "a column per filter, scaled by its largest weight: white is zero · below: its response to one observation"
    )
