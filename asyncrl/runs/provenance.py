"""The provenance of a run: command, commit, machine and date. User and host names are not recorded."""

from __future__ import annotations

import contextlib
import datetime
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import psutil
import torch

from asyncrl.common.hardware import cores

__all__ = ["describe_provenance", "machine", "provenance"]

_GIT_TIMEOUT = 2.0
"""Timeout of git, in seconds."""


def provenance() -> dict[str, Any]:
    """`date` (ISO 8601 with time zone), `command`, `git` (None outside a repository) and `machine`."""
    return {
        "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": list(sys.orig_argv),
        "git": _git(),
        "machine": {**machine(), "os": platform.platform()},
    }


def describe_provenance(facts: Mapping[str, Any]) -> list[str]:
    """The provenance in config.json and each resumption, as lines of text."""
    lines = [f"{label:<20}{_printable(text)}" for label, text in _rows(facts).items() if text]
    resumed = facts.get("resumed")
    for entry in resumed if isinstance(resumed, list) else []:
        if isinstance(entry, dict):
            changes = entry.get("changes")
            words = [f"at step {_shown(entry.get('step'))}", str(entry.get("date"))]
            words += [_change(name, values) for name, values in changes.items()] if isinstance(changes, dict) else []
            lines.append(f"{'resumed':<20}{_printable(', '.join(words))}")
    return lines


def _rows(facts: Mapping[str, Any]) -> dict[str, str]:
    found, git, command = (facts.get(name) for name in ("machine", "git", "command"))
    known = found if isinstance(found, dict) else {}
    machine = [f"Python {known.get('python')}", str(known.get("os")), str(known.get("cpu"))] if known else []
    state = "" if not isinstance(git, dict) or git.get("dirty") is False else ", with changes"
    return {
        "started": str(facts.get("date") or ""),
        "command": shlex.join(map(str, command)) if isinstance(command, list) else "",
        "machine": ", ".join(machine),
        "git commit": f"{git.get('commit')}{state}" if isinstance(git, dict) else "",
    }


def _change(name: str, values: Any) -> str:
    """A setting with its values before and after."""
    if not isinstance(values, list):
        return f"{name}: {values}"
    return f"{name} {' → '.join(map(_shown, values))}"


def _shown(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _printable(text: str) -> str:
    """`text` without control characters: the run folder may come from another user."""
    return "".join(c if c.isprintable() else "?" for c in text)[:500]


def machine() -> dict[str, Any]:
    """The machine that measurements belong to: processor, cores, memory, GPU, versions."""
    model = platform.processor()
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        model = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), model)
    return {
        "cpu": model,
        "cores": cores(),
        "memory_bytes": psutil.virtual_memory().total,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def _git() -> dict[str, Any] | None:
    """`commit`, and `dirty`: whether tracked files differ from it, None if git is slow. None outside a repository."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        commit = _run_git("rev-parse", "HEAD").decode("ascii", "replace").strip()
        dirty = None
        with contextlib.suppress(subprocess.TimeoutExpired):
            dirty = bool(_run_git("status", "--porcelain", "--untracked-files=no").strip())
        return {"commit": commit, "dirty": dirty}
    return None


def _run_git(*words: str) -> bytes:
    """The output of a git command. No program of the repository is run and nothing is written."""
    command = ["git", "-c", "core.fsmonitor=false", *words]
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_GIT_TIMEOUT, check=True, env=environment
    )
    return done.stdout
