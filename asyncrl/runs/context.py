"""The run that a training loop works on."""

from __future__ import annotations

from dataclasses import dataclass

from asyncrl.envs import Contract
from asyncrl.monitor import Monitor
from asyncrl.runs.config import RunConfig
from asyncrl.runs.run import Run

__all__ = ["RunContext"]


@dataclass(frozen=True)
class RunContext:
    """A run's configuration and contract, the folder it is saved in, and the monitor that shows it."""

    config: RunConfig
    """Resolved: nothing is `auto` any more."""
    contract: Contract
    run: Run
    monitor: Monitor
