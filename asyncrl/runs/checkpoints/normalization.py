"""The running statistics of a checkpoint, for `asyncrl inspect`."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from asyncrl.runs.checkpoints.checkpoint import Checkpoint

__all__ = ["describe_normalization", "normalization_facts"]

_MEAN, _HEAD = ".statistics.mean", "value"


def normalization_facts(saved: Checkpoint) -> dict[str, Any]:
    """Return the statistics of observations, values and returns as JSON; {} for a run that normalizes nothing.

    Those of returns are missing where only the weights were exported. No code of the user's runs.
    """
    weights = saved.tensors("weights")
    names = [name.removesuffix(_MEAN) for name in saved.parameters if name.endswith(_MEAN)]
    facts: dict[str, Any] = {}
    if observed := [name for name in names if name != _HEAD]:
        parts = [part.name for part in saved.contract.spaces.features.parts if not part.choices]
        _, first = next(groupby(observed, lambda name: name.partition(".encoder")[0]))  # all bodies have the same
        facts["observation"] = [{"part": part, **_facts(name, weights)} for part, name in zip(parts, first, strict=True)]
    if _HEAD in names:
        facts["value"] = _facts(_HEAD, weights)
    if saved.config.normalize_return and saved.has("normalization"):
        kept = saved.tensors("normalization")
        count = float(kept["return.count"])
        variance = float(kept["return.squares"]) / max(1.0, count)
        facts["return"] = {"count": round(count), "std": variance**0.5}
    return facts


def describe_normalization(facts: Mapping[str, Any]) -> list[str]:
    """Return a line for each of the `facts` of `normalization_facts`."""
    lines = [
        f"{'observation mean':<20}{one['part'] and one['part'] + ': '}{_range(one['mean'])}, standard deviation "
        f"{_range(one['std'])}, {one['count']:,} steps"
        for one in facts.get("observation", [])
    ]
    if one := facts.get("value"):
        lines.append(f"{'value mean':<20}{_range(one['mean'])}, standard deviation {_range(one['std'])}")
    if one := facts.get("return"):
        lines.append(f"{'return std':<20}{one['std']:.3g}, {one['count']:,} steps")
    return lines


def _facts(name: str, weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the count of the module `name`'s statistics, and the smallest and largest mean and standard deviation."""
    count, mean, std = (weights[f"{name}.statistics.{one}"] for one in ("count", "mean", "spread"))
    return {"count": round(float(count)), **{key: _ends(x) for key, x in (("mean", mean), ("std", std))}}


def _ends(x: Tensor) -> list[float]:
    return [float(end) for end in torch.aminmax(x)]


def _range(ends: list[float]) -> str:
    low, high = (f"{end:.3g}" for end in ends)
    return low if low == high else f"{low} … {high}"
