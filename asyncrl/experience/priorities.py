"""A sum tree, for sampling in proportion to priorities (Schaul et al. 2016, appendix B.2.1)."""

from __future__ import annotations

import numpy as np

__all__ = ["SumTree"]


class SumTree:
    """A binary tree of sums over `size` priorities, all 0 at first. Methods take arrays and are vectorized."""

    def __init__(self, size: int) -> None:
        self._depth = max(0, size - 1).bit_length()
        self._first = 1 << self._depth  # node 1 is the root, the children of node i are 2i and 2i + 1
        self._sum = np.zeros(2 * self._first)
        self._size = size

    @property
    def total(self) -> float:
        """The sum of all priorities."""
        return float(self._sum[1])

    @property
    def priorities(self) -> np.ndarray:
        """[size] float64, a view."""
        return self._sum[self._first : self._first + self._size]

    def update(self, index: np.ndarray, priority: np.ndarray | float) -> None:
        """Set the priorities at `index` [n] int64; of duplicates the last one counts."""
        node = index + self._first
        self._sum[node] = priority
        for _ in range(self._depth):
            node = np.unique(node >> 1)
            self._sum[node] = self._sum[2 * node] + self._sum[2 * node + 1]

    def find(self, mass: np.ndarray) -> np.ndarray:
        """Return the first index [n] int64 whose cumulative priority exceeds `mass` [n], which is in [0, total)."""
        node = np.ones(len(mass), dtype=np.int64)
        for _ in range(self._depth):
            left = 2 * node
            below = self._sum[left]
            right = (mass >= below) & (self._sum[left + 1] > 0)  # rounding errors must not lead into an empty branch
            mass = np.where(right, mass - below, mass)
            node = left + right
        return node - self._first
