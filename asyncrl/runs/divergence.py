"""After training has diverged: back to a sound checkpoint, and on with a lower learning rate where that is asked for."""

from __future__ import annotations

import contextlib
from dataclasses import replace

from asyncrl.errors import CheckpointError, DivergenceError
from asyncrl.runs import checkpoint
from asyncrl.runs.checkpoint import Checkpoint
from asyncrl.runs.config import OnDivergence, RunConfig
from asyncrl.runs.manifest import Rewind
from asyncrl.runs.run import Run

__all__ = ["MOST_REWINDS", "recover"]

MOST_REWINDS = 8
"""How often a run goes back before it gives up."""
_FACTOR = 0.5
"""Of the learning rate, each time."""


def recover(run: Run, config: RunConfig, error: DivergenceError) -> Checkpoint | None:
    """Leave only checkpoints that are sound; `latest` is the newest of them.

    Returns the checkpoint from which the run is to go on; None where it is to stop. What is left then says that the run
    diverged. With `rewind`, only checkpoints count that every run of this configuration makes, so that where a run goes
    back to does not depend on when it was interrupted.
    """
    rewinds = config.on_divergence is OnDivergence.REWIND
    sound = [found for found in _sound(run, error.version) if found.scheduled or not rewinds]
    if not sound:
        return None
    target = sound[-1]
    if target.rewinds and target.rewinds[-1].back_to == target.update and len(sound) > 1:
        past, target = target.rewinds, sound[-2]  # a lower rate did not help from there
    else:
        past = target.rewinds
    for path in run.checkpoints():
        if int(path.name) > target.step:
            checkpoint.delete(path)
    run.repair_marks(target.path)
    if not rewinds or len(past) >= MOST_REWINDS:
        checkpoint.amend(target, diverged=True)
        return None
    lower = replace(config.optimizer, learning_rate=config.optimizer.learning_rate * _FACTOR)
    again = Rewind(error.step, error.version, target.update, lower.learning_rate, str(error))
    return checkpoint.amend(target, config=replace(config, optimizer=lower).to_json(), rewinds=[*past, again])


def _sound(run: Run, version: int) -> list[Checkpoint]:
    """The checkpoints that a run which diverged at `version` can go on from, oldest first; the oldest is always one."""
    whole = []
    for path in run.checkpoints():
        with contextlib.suppress(CheckpointError):
            found = checkpoint.load(path)
            found.weights()
            whole.append(found)
    return [found for found in whole if found.update < version and found.sound] or whole[:1]
