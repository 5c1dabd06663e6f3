"""Command lines for tests: run in another process or in this one."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
from pathlib import Path

from asyncrl.cli import main

TRAIN = [
    "train",
    "a3c",
    "worlds:Corridor-v0",
    "--steps",
    "2000",
    "--envs-per-actor",
    "4",
    "--eval-episodes",
    "5",
    "--t-max",
    "5",
    "--rollouts-per-update",
    "2",
]


def command(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "asyncrl", *map(str, words)]
    return subprocess.run(line, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)


def command_here(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """What `command` returns, from this process, which has imported everything already."""
    line, out, errors = [str(word) for word in words], io.StringIO(), io.StringIO()
    with contextlib.chdir(cwd), contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        code = main(line)
    return subprocess.CompletedProcess(line, code, out.getvalue(), errors.getvalue())


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != ".lock"}


def ran(*words: object) -> int:
    """The exit code of a command run in this process, for those that start nothing."""
    try:
        return main([str(word) for word in words])
    except SystemExit as end:
        return int(end.code or 0)
