"""The agent of a run, with the weights that a viewer asks for: the newest, the best, or those of a checkpoint."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import torch

from asyncrl.agents.agent import Agent, load
from asyncrl.errors import CheckpointError, UsageError
from asyncrl.runs.checkpoints import checkpoint
from asyncrl.runs.live_weights import announce_viewer, live_weights_file, read_live_weights
from asyncrl.runs.lookup import checkpoint_folder
from asyncrl.runs.run import Run

__all__ = ["AgentSource", "Played"]

_REFRESH = 1.0
"""Seconds between checks for newer weights."""


@dataclass(frozen=True)
class Played:
    """The weights that play."""

    update: int
    step: int
    checkpoint: str | None
    """The name of their checkpoint; None for weights that the run has just learned."""


class AgentSource:
    """An agent whose weights follow what the viewer asks for."""

    def __init__(self, name: str, *, trust: bool = False) -> None:
        """`name` is a run folder, a checkpoint folder or a pretrained agent. Raises UsageError as `load` does."""
        self._name, self._trust = name, trust
        path = Path(name)
        self.run = Run(path, trusted=trust) if (path / "config.json").is_file() else None
        self.agent: Agent = load(checkpoint_folder(name, "latest", trust=trust), trust=trust)
        self._count = len(self.agent.checkpoint.weights())
        self.wanted = "newest"
        """What the viewer asked for: "newest", "best", or the name of a checkpoint."""
        self.played = self._label(self.agent.checkpoint)
        self.is_announced = False
        """Whether the run knows of this viewer: False where its folder cannot be written to."""
        self._looked = 0.0
        self._seen: tuple[float, str | None] = (0.0, None)

    def choose(self, wanted: str) -> None:
        """Play the weights "newest", "best", or of a checkpoint by name. Raises UsageError if there are none."""
        if wanted == "newest":
            self.wanted, self._looked, self._seen = wanted, 0.0, (0.0, None)
            self.refresh()
            return
        if self.run is None:
            raise UsageError(f"{self._name} has no other checkpoints")
        path = self.run.marked("best") if wanted == "best" else self._named(wanted)
        if path is None:
            raise UsageError("the run has no best checkpoint yet: it has not been evaluated")
        self._load(path)
        self.wanted = wanted

    def refresh(self) -> bool:
        """Load newer weights if the viewer wants the newest and there are some. Returns whether it loaded any."""
        if self.run is None or time.monotonic() - self._looked < _REFRESH:
            return False
        self._looked = time.monotonic()
        if self.wanted != "newest":
            return False
        self.is_announced = announce_viewer(self.run.path)
        latest = self.run.marked("latest")
        found = _modified(live_weights_file(self.run.path)), None if latest is None else latest.name
        if found == self._seen:
            return False
        try:
            live = read_live_weights(self.run.path, self._count)
            saved = None if latest is None else checkpoint.read(latest, trust=self._trust)
            if live is not None and (saved is None or live.update >= saved.update):
                self.agent.policy.load(live.weights)
                self.played = Played(live.update, live.step, None)
            elif latest is not None:
                self._load(latest)
        except CheckpointError:  # the run is replacing the files
            return False
        self._seen = found
        return True

    def _named(self, name: str) -> Path:
        assert self.run is not None
        found = [path for path in self.run.checkpoints() if path.name == name]
        if not found:
            raise UsageError(f"{self.run.path} has no checkpoint {name!r} any more; choose another")
        return found[0]

    def _load(self, path: Path) -> None:
        found = checkpoint.load(path, trust=self._trust)
        weights = found.weights()
        if weights.shape != torch.Size([self._count]):
            raise UsageError(f"{path} holds weights of another network")
        self.agent.policy.load(weights)
        self.played = self._label(found)

    @staticmethod
    def _label(found: checkpoint.Checkpoint) -> Played:
        return Played(found.update, found.step, found.path.name)


def _modified(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0
