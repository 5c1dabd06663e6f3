"""The run that a training loop works on."""

from __future__ import annotations

from dataclasses import dataclass, field

from asyncrl.envs import Contract
from asyncrl.monitor import Callbacks, Monitor
from asyncrl.runs.config.run_config import RunConfig
from asyncrl.runs.remote.uploads import Uploads
from asyncrl.runs.run import Run

__all__ = ["RunContext"]


@dataclass(frozen=True)
class RunContext:
    """A run's configuration and contract, the folder it is saved in, its monitor, and the user's callbacks."""

    config: RunConfig
    """Resolved: nothing is `auto` any more."""
    contract: Contract
    run: Run
    monitor: Monitor
    callbacks: Callbacks = field(default_factory=lambda: Callbacks(()))
    """Also one of the monitor's sinks, from which it has the records."""
    uploads: Uploads | None = None
    """Copies the run into its storage, if it has one."""
