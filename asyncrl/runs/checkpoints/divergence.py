"""Recovers from divergence: returns to a sound checkpoint and, if asked to, continues with a lower learning rate."""

from __future__ import annotations

import contextlib
from dataclasses import replace

from asyncrl.errors import CheckpointError, DivergenceError
from asyncrl.experience import Archive
from asyncrl.runs.checkpoints import checkpoint
from asyncrl.runs.checkpoints.checkpoint import Checkpoint
from asyncrl.runs.checkpoints.manifest import Rewind
from asyncrl.runs.config.run_config import OnDivergence, RunConfig
from asyncrl.runs.run import Run

__all__ = ["MAX_REWINDS", "recover"]

MAX_REWINDS = 8
"""Rewinds before a run stops."""
_FACTOR = 0.5
"""Factor of the learning rate at each rewind."""


def recover(run: Run, config: RunConfig, error: DivergenceError) -> Checkpoint | None:
    """Delete the checkpoints after the newest sound one, and let `latest` point to that.

    Returns the checkpoint to continue from; None if the run is to stop, in which case the checkpoint is marked as
    diverged. With `--on-divergence rewind`, only scheduled checkpoints count, unless none of them is sound: every run of
    this configuration makes them, so the target of a rewind does not depend on interruptions.
    """
    rewinds = config.on_divergence is OnDivergence.REWIND
    sound = _sound(run, error.version, scheduled=rewinds)
    if not sound:
        return None
    target = sound[-1]
    if target.rewinds and target.rewinds[-1].back_to == target.update and len(sound) > 1:
        past, target = target.rewinds, sound[-2]  # the lower rate did not help from there
    else:
        past = target.rewinds
    for path in run.checkpoints():
        if int(path.name) > target.step:
            checkpoint.delete(path)
    run.repair_marks(target.path)
    if not rewinds or len(past) >= MAX_REWINDS:
        checkpoint.amend(target, diverged=True)
        return None
    lower = replace(config.optimizer, learning_rate=config.optimizer.learning_rate * _FACTOR)
    again = Rewind(error.step, error.version, target.update, lower.learning_rate, str(error))
    return checkpoint.amend(target, config=replace(config, optimizer=lower).to_json(), rewinds=[*past, again])


def _sound(run: Run, version: int, *, scheduled: bool) -> list[Checkpoint]:
    """The checkpoints before `version` that have sound weights and all files to continue from, oldest first.

    With `scheduled`, only scheduled ones, if there are any. Where none is sound, the oldest that is not damaged.
    """
    undamaged = []
    for path in run.checkpoints():
        with contextlib.suppress(CheckpointError):
            found = checkpoint.load(path, trust=run.trusted)
            found.weights()
            Archive.verify(run.replay_folder, found.replay)  # that of the best one may be removed
            undamaged.append(found)
    sound = [found for found in undamaged if found.update < version and found.sound]
    return [found for found in sound if found.scheduled or not scheduled] or sound or undamaged[:1]
