"""Memory that a vector environment shares with its workers, one row per environment."""

from __future__ import annotations

import math
import mmap
import os
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from asyncrl.common.alignment import aligned

__all__ = ["SharedBuffers"]


class SharedBuffers:
    """Arrays in a shared file. Both sides lay it out alike, because both know the spaces.

    Observations have two buffers that are written in turn, so the previous observation survives a failed step.
    Observations and actions that are not arrays are not in the file: there, `observation` and `action` are arrays of
    objects that each side has for itself.
    """

    observation: np.ndarray
    """[2, B, *O]"""
    action: np.ndarray
    """[B, *A]"""
    reward: np.ndarray
    """[B] float64"""
    terminated: np.ndarray
    """[B] bool"""
    truncated: np.ndarray
    """[B] bool"""

    def __init__(
        self, file: int, num_envs: int, observation: gymnasium.Space[Any], action: gymnasium.Space[Any], *, allocate: bool
    ) -> None:
        """`file` is a descriptor; `allocate` sets the file's size."""
        self.shares_observation = _is_array(observation)
        self.shares_action = _is_array(action)
        fields: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] = {
            "observation": _field((2, num_envs), observation),
            "action": _field((num_envs,), action),
            "reward": ((num_envs,), np.dtype(np.float64)),
            "terminated": ((num_envs,), np.dtype(np.bool_)),
            "truncated": ((num_envs,), np.dtype(np.bool_)),
        }
        offsets: dict[str, int] = {}
        end = 0
        for name, (shape, dtype) in fields.items():
            if dtype.kind != "O":
                offsets[name] = end
                end += aligned(math.prod(shape) * dtype.itemsize)
        if allocate:
            os.ftruncate(file, end)
        memory = mmap.mmap(file, end)
        for name, (shape, dtype) in fields.items():
            is_shared = name in offsets
            array = np.ndarray(shape, dtype, memory, offsets[name]) if is_shared else np.empty(shape, dtype)
            setattr(self, name, array)


def _is_array(space: gymnasium.Space[Any]) -> bool:
    return isinstance(space, spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary)


def _field(rows: tuple[int, ...], space: gymnasium.Space[Any]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    if not _is_array(space):
        return rows, np.dtype(object)
    return (*rows, *(space.shape or ())), np.dtype(space.dtype)
