"""The filters of the first convolution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from asyncrl.agents.agent import load
from asyncrl.agents.conv_filters import first_layer
from asyncrl.errors import UsageError
from asyncrl.plots.sources import PlottedRun
from asyncrl.plots.style import INK, MUTED, NORMAL, SMALL, note

__all__ = ["Filters", "draw_filters", "filters_of"]

_MOST = 16
"""Filters of a network that are drawn."""

Filters = tuple[str, np.ndarray, np.ndarray]
"""A run's name, its kernels [F, C, k, k] and their activations [F, h, w], both float32."""


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
            found.append((run.name, kernels.numpy(), activations.numpy()))
    if not found:
        raise UsageError(f"{', '.join(run.name for run in runs)}: no network of these runs has convolutions to draw")
    return found


def draw_filters(figure: Any, found: Sequence[Filters]) -> None:
    """A block per run: a column per filter with its kernel for every stacked frame, and its activation."""
    blocks = figure.subfigures(len(found), 1, squeeze=False)[:, 0]
    for block, (name, kernels, activations) in zip(blocks, found, strict=True):
        kernels, activations = kernels[:_MOST], activations[:_MOST]
        count, frames = kernels.shape[:2]
        block.suptitle(name, x=0.01, ha="left", fontsize=NORMAL, fontweight="bold", color=INK)
        grid = block.subplots(frames + 1, count, squeeze=False)
        for column in range(count):
            limit = float(np.abs(kernels[column]).max()) or 1.0
            for frame in range(frames):
                grid[frame][column].imshow(kernels[column, frame], cmap="PuOr", vmin=-limit, vmax=limit)
            grid[frames][column].imshow(activations[column], cmap="gray")
        for row in range(frames + 1):
            text = "activation" if row == frames else f"frame t − {frames - 1 - row}" if row < frames - 1 else "frame t"
            grid[row][0].set_ylabel(text, rotation=0, ha="right", va="center", fontsize=SMALL, color=MUTED)
            for axes in grid[row]:
                axes.set(xticks=[], yticks=[])
                axes.spines[:].set_visible(False)
    note(
        figure, "a column per filter, scaled by its largest weight: white is zero · below: its response to one observation"
    )
