"""Figures of runs: learning curves over seeds, distributions, losses, filters."""

from asyncrl.plots.curves import XAxis
from asyncrl.plots.figures import What, plot

__all__ = ["What", "XAxis", "plot"]
