"""The contents of a run's config.json, read as data: without torch, and without importing what it names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["current_settings"]


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
