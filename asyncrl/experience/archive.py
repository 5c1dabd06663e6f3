"""The replay buffer on disk, saved incrementally: each file holds the rows added since the previous checkpoint."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from asyncrl.common.os_errors import name_target
from asyncrl.common.serialization import file_checksum, load_tensors, read_header, save_tensors, verify_file
from asyncrl.errors import CheckpointError
from asyncrl.experience.replay import ReplayBuffer

__all__ = ["Archive"]

Files = dict[str, dict[str, Any]]
"""Maps file names to {"sha256", "bytes"}, oldest file first."""


class Archive:
    """The files of a run's replay buffer. Files never change, so checkpoints share them."""

    def __init__(self, replay: ReplayBuffer, folder: Path) -> None:
        self._replay, self._folder = replay, folder
        self._files: Files = {}
        self._newest: list[np.ndarray] = []  # per file: number of the newest row of each actor

    def write(self, name: str) -> Files:
        """Write the rows added since the last call. Returns all files that are needed to restore the buffer.

        Called again with the same name, because the rest of a checkpoint could not be written, it keeps the file.
        """
        if f"{name}.safetensors" in self._files:
            return dict(self._files)
        self._folder.mkdir(exist_ok=True)
        since = self._newest[-1] if self._newest else np.zeros_like(self._replay.newest)
        path = self._folder / f"{name}.safetensors"
        temporary = self._folder / f".{name}.tmp"
        with name_target(path, temporary):
            try:
                save_tensors(temporary, self._replay.rows(since))
                os.replace(temporary, path)
            except OSError:
                temporary.unlink(missing_ok=True)  # free its space on a full disk
                raise
        self._files[path.name] = file_checksum(path)
        self._newest.append(self._replay.newest.copy())
        while len(self._newest) > 1 and (self._newest[0] <= self._replay.oldest_stored).all():  # the next file has this row
            self._newest.pop(0)
            del self._files[next(iter(self._files))]
        return dict(self._files)

    def read(self, files: Files) -> None:
        """Load `files`, which `verify` has accepted, into the buffer. Raises CheckpointError if they do not fit it."""
        for name in files:
            path = self._folder / name
            try:
                self._replay.load_rows(load_tensors(path, self._replay.like(read_header(path))))
            except ValueError as problem:
                raise CheckpointError(f"{path} does not fit the replay buffer: {problem}") from None
            self._newest.append(self._replay.newest.copy())
        self._files = dict(files)

    @staticmethod
    def verify(folder: Path, files: Mapping[str, Mapping[str, Any]]) -> None:
        """Raise CheckpointError that names the first file that is missing or damaged."""
        for name, facts in files.items():
            verify_file(folder / name, facts)
