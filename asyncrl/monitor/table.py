"""Records as tables and as scalars."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from asyncrl.monitor.sink import Record

__all__ = ["columns", "row", "scalars"]

_NOT_SCALARS = {"step", "update", "time", "actor"}
"""Numbers that are not measurements."""


def columns(records: Iterable[Record]) -> dict[str, list[Any]]:
    """The fields of records as columns of equal length, with None where a record lacks a field."""
    rows = [row(record) for record in records]
    names = dict.fromkeys(name for found in rows for name in found)
    return {name: [found.get(name) for found in rows] for name in names}


def row(record: Record) -> Record:
    """A record without nested tables: their entries become fields such as `means/CartPole-v1`."""
    found: Record = {}
    for name, value in record.items():
        found |= {f"{name}/{key}": x for key, x in value.items()} if isinstance(value, dict) else {name: value}
    return found


def scalars(record: Record) -> dict[str, float]:
    """The numbers of a record by tag, such as `train/mean_return`."""
    kind = record["kind"]
    numbers = {name: x for name, x in record.items() if isinstance(x, int | float) and name not in _NOT_SCALARS}
    tables = {name: x for name, x in record.items() if isinstance(x, dict)}
    found = {f"{kind}/{name}": x for name, x in numbers.items()}
    found |= {f"{kind}/mean of {env.replace('/', '-')}": mean for env, mean in tables.get("means", {}).items()}
    found |= {f"{kind}/{name}": mean for name, mean in tables.get("measures", {}).items()}
    for who in ("actors", "learner"):
        found |= {f"{kind}/{who}/{stage}": share for stage, share in tables.get(who, {}).items()}
    return found | {f"actions/{action}": share for action, share in enumerate(record.get("actions") or [])}
