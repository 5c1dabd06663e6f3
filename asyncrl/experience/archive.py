"""A replay memory on disk, written little by little: each file holds what was new when a checkpoint was made."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from asyncrl.common.serialization import file_facts, load_tensors, save_tensors, tensors_in, verify_file
from asyncrl.errors import CheckpointError
from asyncrl.experience.replay import ReplayBuffer

__all__ = ["Archive"]

Files = dict[str, dict[str, Any]]
"""name → {"sha256", "bytes"}, oldest first"""


class Archive:
    """The files of one run's replay memory. They are never changed, so checkpoints have them in common."""

    def __init__(self, replay: ReplayBuffer, folder: Path) -> None:
        self._replay, self._folder = replay, folder
        self._files: Files = {}
        self._newest: list[np.ndarray] = []  # of each file: the newest row of each actor that it holds

    def write(self, name: str) -> Files:
        """Write what is new since the last time; returns the files that hold everything."""
        self._folder.mkdir(exist_ok=True)
        since = self._newest[-1] if self._newest else np.zeros_like(self._replay.newest)
        path, beside = self._folder / f"{name}.safetensors", self._folder / f".{name}.tmp"
        try:
            save_tensors(beside, self._replay.rows(since))
        except OSError:
            beside.unlink(missing_ok=True)  # on a full disk it takes the room of the next one
            raise
        os.replace(beside, path)
        self._files[path.name] = file_facts(path)
        self._newest.append(self._replay.newest.copy())
        while len(self._newest) > 1 and (self._newest[0] < self._replay.oldest).all():
            self._newest.pop(0)
            del self._files[next(iter(self._files))]
        return dict(self._files)

    def read(self, files: Files) -> None:
        """Fill the memory. Raises CheckpointError that names the first file that is missing, truncated or changed."""
        self.verify(self._folder, files)
        for name in files:
            path = self._folder / name
            try:
                self._replay.load_rows(load_tensors(path, self._replay.like(tensors_in(path))))
            except ValueError as problem:
                raise CheckpointError(f"{path} does not fit this replay memory: {problem}") from None
            self._newest.append(self._replay.newest.copy())
        self._files = dict(files)

    @staticmethod
    def verify(folder: Path, files: Mapping[str, Mapping[str, Any]]) -> None:
        """Raise CheckpointError that names the first file that is missing, truncated or changed."""
        for name, facts in files.items():
            verify_file(folder / name, facts)
