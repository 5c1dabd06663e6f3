"""Starts the runs of a study: as processes of this machine, or on the nodes of a Ray cluster."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from asyncrl.cluster.commands import Command, RemoteProcess
from asyncrl.cluster.connection import check_nodes, connect, nodes
from asyncrl.common.command_process import CommandProcess
from asyncrl.common.hardware import cores
from asyncrl.common.validation import flag
from asyncrl.envs import Contract
from asyncrl.errors import UsageError
from asyncrl.runs.adoption import sign_as_own
from asyncrl.runs.config.option_checks import ineffective
from asyncrl.runs.config.resolution import resolve
from asyncrl.runs.config.run_config import Device, EngineKind, Precision, RunConfig
from asyncrl.runs.run import Run
from asyncrl.studies.processes import cores_of

__all__ = ["Command", "Launcher", "LocalLauncher", "Process", "RayLauncher", "open_launcher"]

_RECOUNT = 5.0
"""Seconds between counts of a cluster's nodes."""


class Process(Protocol):
    """A command that runs."""

    def poll(self) -> int | None:
        """The exit code, or None while it runs."""

    def interrupt(self) -> None:
        """Ask it to save and end; only the first call does."""

    def kill(self) -> None:
        """Kill it. Idempotent."""


class Launcher(Protocol):
    """Starts the commands of a study."""

    def jobs(self, needed: int) -> int:
        """The number of runs at a time if each keeps `needed` cores busy."""

    def start(self, make: Callable[[], Command], out: Path, errors: Path) -> Process:
        """Start a command. `make` is called again for each restart."""

    def options(self, config: RunConfig, contract: Contract) -> tuple[str, ...]:
        """Options for settings that a run would leave to its machine."""

    def may_trust(self, run: Run) -> bool:
        """Whether the run may be continued with --trust: it is the user's own, but other machines cannot know that."""


class LocalLauncher:
    """Starts processes of this machine."""

    def jobs(self, needed: int) -> int:
        return max(1, cores() // needed)

    def start(self, make: Callable[[], Command], out: Path, errors: Path) -> Process:
        return CommandProcess(make().words, out, errors)

    def options(self, config: RunConfig, contract: Contract) -> tuple[str, ...]:
        return ()

    def may_trust(self, run: Run) -> bool:
        return False


class RayLauncher:
    """Starts a Ray actor of the connected cluster for each run, whose files are copied to the study while it runs."""

    def __init__(self, study: Path, takes: RunConfig, say: Callable[[str], None]) -> None:
        """`takes`: the resolved configuration whose run keeps the most cores busy."""
        self._study, self._say = study, say
        self._cores = max(1, min(cores_of(takes), int(max(node.cpus for node in nodes()))))
        self._gpus = int(takes.device is Device.CUDA)
        self._counted: tuple[float, int] = (0.0, 1)

    def jobs(self, needed: int) -> int:
        at, jobs = self._counted
        if time.monotonic() - at > _RECOUNT or not at:
            jobs = max(1, sum(int(node.cpus) // self._cores for node in nodes()))
            self._counted = time.monotonic(), jobs
        return jobs

    def start(self, make: Callable[[], Command], out: Path, errors: Path) -> Process:
        return RemoteProcess(
            make,
            out,
            errors,
            study=self._study,
            cores=self._cores,
            gpus=self._gpus,
            stored=sign_as_own,
            say=self._say,
        )

    def options(self, config: RunConfig, contract: Contract) -> tuple[str, ...]:
        decided = resolve(config, contract)
        left = {
            "engine": config.engine is EngineKind.AUTO,
            "device": config.device is Device.AUTO,
            "precision": config.precision is Precision.AUTO,
            "learner_threads": config.learner_threads is None,
        }
        without = ineffective(config, decided, contract)
        words = list[str]()
        for name in (name for name, is_left in left.items() if is_left and name not in without):
            value = getattr(decided, name)
            words += [flag(name), str(getattr(value, "value", value))]
        return tuple(words)

    def may_trust(self, run: Run) -> bool:
        return not (run.path / "config.json").exists() or run.is_signed_by_user


@contextlib.contextmanager
def open_launcher(address: str | None, study: Path, takes: RunConfig, say: Callable[[str], None]) -> Iterator[Launcher]:
    """Yield the launcher for this machine, or for the Ray cluster at an address ("local": one that is started here)."""
    if address is None:
        yield LocalLauncher()
        return
    with contextlib.ExitStack() as connected:
        try:
            connected.enter_context(connect(None if address == "local" else address))
            check_nodes()
        except UsageError as problem:  # as for a run's own actors
            sentence = str(problem).replace("--ray-address", "--on-ray").replace("--engine ray", "--on-ray")
            raise UsageError(sentence) from None
        yield RayLauncher(study, takes, say)
