"""Signs the files of a run that a cluster node made for this user."""

from __future__ import annotations

import contextlib
from pathlib import Path

from asyncrl.errors import CheckpointError
from asyncrl.runs.checkpoints.manifest import MANIFEST, read_manifest, write_manifest
from asyncrl.runs.run import CONFIG, Run

__all__ = ["sign_as_own"]


def sign_as_own(path: Path) -> None:
    """Sign a file that decides which code runs, config.json or a checkpoint's manifest, as this user's; others are left."""
    with contextlib.suppress(CheckpointError):  # damaged: it is refused when it is read
        if path.name == CONFIG:
            Run(path.parent).sign()
        elif path.name == MANIFEST:
            write_manifest(path.parent, read_manifest(path.parent), sign=True)
