"""A sum tree: priorities that can be sampled in proportion, and changed, many at a time."""

from __future__ import annotations

import numpy as np

__all__ = ["SumTree"]


class SumTree:
    """A binary tree of sums over `size` priorities, all 0 at first. Every method takes arrays; none loops over items."""

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
        """Set priorities at `index` [n]; where one occurs twice, its last priority counts."""
        node = index + self._first
        self._sum[node] = priority
        for _ in range(self._depth):
            node = np.unique(node >> 1)
            self._sum[node] = self._sum[2 * node] + self._sum[2 * node + 1]

    def find(self, mass: np.ndarray) -> np.ndarray:
        """[n] int64: which priority contains each `mass` [n] in [0, total) when all are laid end to end."""
        node = np.ones(len(mass), dtype=np.int64)
        for _ in range(self._depth):
            left = 2 * node
            below = self._sum[left]
            right = (mass >= below) & (self._sum[left + 1] > 0)  # rounding must not lead to an empty branch
            mass = np.where(right, mass - below, mass)
            node = left + right
        return node - self._first
