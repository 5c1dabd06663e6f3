"""The contents of a run's config.json, read as data: without torch, and without importing what it names."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from asyncrl.common.serialization import read_json
from asyncrl.errors import CheckpointError

__all__ = ["current_settings", "saved_facts"]


def saved_facts(folder: Path) -> dict[str, Any]:
    """The contents of config.json in a run's folder; {} if it cannot be read."""
    with contextlib.suppress(CheckpointError):
        found = read_json(folder / "config.json")
        return found if isinstance(found, dict) else {}
    return {}


def current_settings(facts: Any) -> dict[str, Any]:
    """Return the configuration in the contents of config.json, with what resumptions have changed; {} if there is none.

    config.json keeps the settings that a run began with, and lists the changes.
    """
    config = facts.get("config") if isinstance(facts, Mapping) else None
    if not isinstance(config, dict):
        return {}
    current = dict(config)
    resumed = facts.get("resumed")
    for entry in resumed if isinstance(resumed, list) else []:
        changes = entry.get("changes") if isinstance(entry, dict) else None
        for name, values in changes.items() if isinstance(changes, dict) else ():
            if not isinstance(values, list) or len(values) != 2:
                continue
            if name == "learning_rate" and isinstance(current.get("optimizer"), dict):
                current["optimizer"] = {**current["optimizer"], name: values[1]}
            else:
                current[name] = values[1]
    return current
