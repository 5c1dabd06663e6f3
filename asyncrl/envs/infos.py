"""Infos of several environments in one dictionary, as vector environments return them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["batched", "info_of"]


def batched(infos: Mapping[int, Mapping[Any, Any]], num_envs: int) -> dict[Any, Any]:
    """Return `infos`, by environment index, as arrays by name with a row per environment.

    Numbers and arrays of one shape make an array of numbers, dictionaries a dictionary of arrays, everything else an
    array of objects. ``_name``, [B] bool, marks the environments that gave `name`; the rows of the others are 0 or None.
    """
    rows: dict[Any, Any] = {}
    masks: dict[str, np.ndarray] = {}
    for name in dict.fromkeys(name for info in infos.values() for name in info):
        given = {i: info[name] for i, info in infos.items() if name in info}
        rows[name] = _rows(given, num_envs)
        masks[f"_{name}"] = mask = np.zeros(num_envs, dtype=bool)
        mask[list(given)] = True
    return masks | rows


def info_of(infos: Mapping[Any, Any], env: int, num_envs: int) -> dict[Any, Any]:
    """Return the info of one environment, the inverse of `batched`; what has no row per environment is left out."""
    masks = {mask for name in infos if _is_mask(infos.get(mask := f"_{name}")) and f"_{mask}" not in infos}
    info: dict[Any, Any] = {}
    for name, rows in infos.items():
        if name in masks or (f"_{name}" in masks and not infos[f"_{name}"][env]):
            continue
        if isinstance(rows, dict):
            info[name] = info_of(rows, env, num_envs)
        elif (isinstance(rows, list) or (isinstance(rows, np.ndarray) and rows.ndim)) and len(rows) == num_envs:
            info[name] = rows[env]
    return info


def _is_mask(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype == np.bool_ and value.ndim == 1


def _rows(given: Mapping[int, Any], num_envs: int) -> Any:
    if all(isinstance(value, dict) for value in given.values()):
        return batched(given, num_envs)
    numbers = [_number(value) for value in given.values()]
    shapes = {None if x is None else x.shape for x in numbers}
    if len(shapes) == 1 and None not in shapes:
        dtype = np.result_type(*(x.dtype for x in numbers if x is not None))
        rows = np.zeros((num_envs, *shapes.pop()), dtype)  # type: ignore[misc]
        rows[list(given)] = numbers
        return rows
    objects = np.full(num_envs, None, dtype=object)
    for i, value in given.items():
        objects[i] = value
    return objects


def _number(value: Any) -> np.ndarray | None:
    """Return a number or an array of numbers as an array; None for anything else."""
    if not isinstance(value, bool | int | float | np.generic | np.ndarray):
        return None
    array = np.asarray(value)
    return array if array.dtype.kind in "biufc" else None
