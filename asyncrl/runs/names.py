"""Names of runs and agents: paths, hf:USER/NAME and URLs.

Nothing here imports torch: the server of the live page starts without it.
"""

from __future__ import annotations

import os
import reprlib
from pathlib import Path
from typing import Any

from asyncrl.errors import UsageError, suggestions
from asyncrl.runs.remote.folder import is_url
from asyncrl.runs.remote.hub import downloaded, is_on_hub

__all__ = ["PRETRAINED", "checked_name", "existing_path", "local_path", "pretrained_names", "run_names"]

PRETRAINED = Path(__file__).parents[1] / "pretrained"
"""The folder of the agents that come with the package."""


def run_names(*names: Any) -> tuple[str, ...]:
    """The names of runs, which are given one by one or as one list. Raises UsageError for what names none."""
    given = names[0] if len(names) == 1 and isinstance(names[0], list | tuple) else names
    return tuple(map(checked_name, given))


def checked_name(name: str | os.PathLike[str]) -> str:
    """The name of a run or an agent as text. Raises UsageError if it is neither text nor a path."""
    if not isinstance(name, str | os.PathLike):
        raise UsageError(
            f"a run or an agent is named by the path of its run folder (run.path), not by {reprlib.repr(name)}"
        )
    return os.fspath(name)


def local_path(name: str | os.PathLike[str]) -> Path:
    """The path of a run or an agent, which is copied to this machine first if it is on the Hub or in a storage."""
    if is_on_hub(name):
        return downloaded(name)
    if is_url(name):
        from asyncrl.runs.remote.fetched import cached

        return cached(name)
    return Path(name)


def existing_path(name: str | os.PathLike[str]) -> Path:
    """The `local_path` of a run. Raises UsageError, with near names, if nothing is there."""
    path = local_path(checked_name(name))
    if not path.exists():
        usual = (str(file.parent) for file in Path("runs").glob("*/config.json"))
        raise UsageError(f"run folder {path} does not exist{suggestions(str(path), usual)}")
    return path


def pretrained_names() -> list[str]:
    """The agents that come with the package, as `pretrained/pong-ppo`."""
    return [f"pretrained/{p.name}" for p in sorted(PRETRAINED.iterdir()) if (p / "manifest.json").is_file()]
