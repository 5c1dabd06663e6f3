"""The newest weights of a run in progress, which it writes while someone watches it.

A viewer touches `live/viewer` in the run folder. The run checks that file's time every two seconds, and only while it
is fresh writes its weights to `live/weights.safetensors`. Nothing else passes between the two.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from asyncrl.common.serialization import load_tensors
from asyncrl.errors import CheckpointError
from asyncrl.learner import Learner

__all__ = ["FRESH", "LiveWeights", "LiveWriter", "announce_viewer", "live_weights_file", "read_live_weights"]

FRESH = 10.0
"""Seconds after its last touch for which a viewer counts as present."""
_INTERVAL = 2.0
"""Least number of seconds between checks of the viewer's file, and so between writes."""
_LARGEST_SHARE = 0.01
"""Share of its time that the run may spend on copying weights."""


def _viewer_file(run: Path) -> Path:
    return run / "live" / "viewer"


def live_weights_file(run: Path) -> Path:
    """Return where the run in the folder `run` writes its newest weights."""
    return run / "live" / "weights.safetensors"


@dataclass(frozen=True)
class LiveWeights:
    """Weights of a run that may still be learning."""

    update: int
    step: int
    weights: Tensor
    """[P] float32"""


class LiveWriter:
    """Writes the learner's weights while a viewer is present; costs nothing but a look at the clock otherwise."""

    def __init__(self, run: Path, learner: Learner) -> None:
        self._run, self._learner = run, learner
        self._due = time.monotonic()
        self._writing: threading.Thread | None = None

    def offer(self) -> None:
        """Write the weights of the update that has just been made, if someone watches and it is time.

        The file is written in another thread. A failure leaves viewers with the weights they have: it is not the run's.
        """
        now = time.monotonic()
        if now < self._due:
            return
        self._due = now + _INTERVAL
        if not _is_watched(self._run) or (self._writing is not None and self._writing.is_alive()):
            return
        learner = self._learner
        weights = learner.weights.detach().to("cpu", copy=True)
        seconds = time.monotonic() - now
        self._due = now + max(_INTERVAL, seconds / _LARGEST_SHARE)
        newest = LiveWeights(learner.updates, learner.step, weights)
        self._writing = threading.Thread(target=_write, args=(self._run, newest), name="live weights", daemon=True)
        self._writing.start()

    def clear(self) -> None:
        """Remove what was written: a checkpoint holds the weights, or the run begins again at an earlier update."""
        if self._writing is not None:
            self._writing.join()
        with contextlib.suppress(OSError):
            live_weights_file(self._run).unlink(missing_ok=True)


def _is_watched(run: Path) -> bool:
    try:
        touched = os.stat(_viewer_file(run)).st_mtime
    except OSError:
        return False
    return abs(time.time() - touched) < FRESH and not _has_links(run)


def _has_links(run: Path) -> bool:
    """Whether the folder `live` or a file in it is a link: nothing is written through one."""
    file = live_weights_file(run)
    return any(path.is_symlink() for path in (file.parent, file, _viewer_file(run)))


def _write(run: Path, newest: LiveWeights) -> None:
    from safetensors.torch import save_file

    file = live_weights_file(run)
    beside = file.with_name(f".{file.name}.tmp")
    tensors = {"weights": newest.weights, "update": torch.tensor(newest.update), "step": torch.tensor(newest.step)}
    with contextlib.suppress(Exception):  # safetensors raises its own error for a full disk
        beside.unlink(missing_ok=True)  # it may be a link that must not be followed
        save_file(tensors, beside)
        os.replace(beside, file)


def announce_viewer(run: Path) -> bool:
    """Tell the run that someone watches it. Returns False if its folder cannot be written to."""
    file = _viewer_file(run)
    if _has_links(run):
        return False
    try:
        file.parent.mkdir(exist_ok=True)
        file.touch()
    except OSError:
        return False
    return True


def read_live_weights(run: Path, count: int) -> LiveWeights | None:
    """Return the newest weights that a run has written for viewers; None if there are none.

    `count` is the number P of weights. Raises CheckpointError for a file that does not hold P finite numbers.
    """
    file = live_weights_file(run)
    if not file.is_file():
        return None
    scalar = torch.empty((), dtype=torch.int64, device="meta")
    expected = {"weights": torch.empty(count, dtype=torch.float32, device="meta"), "update": scalar, "step": scalar}
    found = load_tensors(file, expected)
    if not torch.isfinite(found["weights"]).all():
        raise CheckpointError(f"{file} has numbers that are not finite")
    return LiveWeights(int(found["update"]), int(found["step"]), found["weights"])
