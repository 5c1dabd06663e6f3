"""The best and worst episodes of a metrics.jsonl."""

from __future__ import annotations

import json
import math
import re

import numpy as np

from asyncrl.monitor import Record

__all__ = ["Ranking"]

_BEGIN = b'"kind": "episode", "return": '
_RETURN = re.compile(_BEGIN + b"([^,}]+)")
_KEPT = 20
"""Episodes of each sort."""


class Ranking:
    """The episodes with the highest and the lowest returns; the earlier of equal ones."""

    def __init__(self) -> None:
        self.best: list[Record] = []
        """Highest return first."""
        self.worst: list[Record] = []
        """Lowest return first."""
        self.episodes = 0
        """Episodes seen."""

    def add(self, chunk: bytes) -> bool:
        """Add the episodes of whole lines. Returns whether the lists changed."""
        words = _RETURN.findall(chunk)
        values = _floats(words)
        self.episodes += len(words)
        best = _merge(self.best, _highest(chunk, words, values, len(self.best) == _KEPT and self.best[-1]["return"]), -1)
        worst = _merge(
            self.worst, _highest(chunk, words, -values, len(self.worst) == _KEPT and -self.worst[-1]["return"]), 1
        )
        changed = best != self.best or worst != self.worst
        self.best, self.worst = best, worst
        return changed


def _floats(words: list[bytes]) -> np.ndarray:
    try:
        return np.array(list(map(float, words)), dtype=np.float64)
    except ValueError:  # a damaged line
        return np.array([_float(word) for word in words], dtype=np.float64)


def _float(word: bytes) -> float:
    try:
        return float(word)
    except ValueError:
        return math.nan


def _highest(chunk: bytes, words: list[bytes], values: np.ndarray, floor: float | bool) -> list[Record]:
    """The records of the highest values above `floor` (False: any)."""
    known = np.where(np.isfinite(values), values, -np.inf)
    order = np.argsort(-known, kind="stable")[:_KEPT]
    wanted = [i for i in order.tolist() if known[i] > -math.inf and (floor is False or known[i] > floor)]
    found, positions = [], dict[bytes, int]()
    for word in (words[i] for i in wanted):
        start = chunk.find(_BEGIN + word + b",", positions.get(word, 0))
        positions[word] = start + 1
        if start < 0:
            continue
        try:
            record = json.loads(chunk[chunk.rfind(b"\n", 0, start) + 1 : chunk.find(b"\n", start)])
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict) and record.get("kind") == "episode":
            found.append(record)
    return found


def _merge(before: list[Record], new: list[Record], sign: int) -> list[Record]:
    if not new:
        return before
    return sorted([*before, *new], key=lambda record: sign * float(record["return"]))[:_KEPT]
