"""Fields of `train` records under the names that earlier runs wrote: read as today's, never written."""

from __future__ import annotations

from asyncrl.monitor import Record

__all__ = ["with_current_names"]

_RENAMED = {"clipped": "clip_fraction", "return_spread": "return_std", "value_spread": "value_std"}


def with_current_names(record: Record) -> Record:
    """Return the record with today's names of its fields; one that has them is returned itself."""
    if record.get("kind") != "train" or _RENAMED.keys().isdisjoint(record):
        return record
    return {_RENAMED.get(name, name): value for name, value in record.items()}
