"""Crash capsules: a JSON file from which an episode that ended in a failure can be played again.

It holds the environment's contract, the seed of the episode, all its actions, and what went wrong.
"""

from __future__ import annotations

import json
import os
import platform
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gymnasium

from asyncrl.envs.process import Failed, WorkerProcess, Workplace
from asyncrl.envs.worker import Failure, Kind
from asyncrl.errors import EnvironmentFault, UsageError
from asyncrl.version import __version__

__all__ = ["Capsule", "Outcome", "load", "replay", "versions", "write"]


@dataclass(frozen=True)
class Capsule:
    """One failure, and the way to it."""

    contract: dict[str, Any]
    """What the environment was made by: a `Contract` as JSON."""
    seed: int
    """What the episode was reset with."""
    options: dict[str, Any] | None
    """The reset's options."""
    steps: int
    """How many actions there are; the last one is the one that failed. 0: the reset failed."""
    actions: Any
    """As `action_space.to_jsonable` gives them."""
    kind: str
    """How it failed: a value of `Kind`."""
    what: str
    """The failure in a few words."""
    traceback: str
    """The environment's own."""
    memory_limit: int | None = None
    """MiB that its worker might use."""
    versions: dict[str, str] = field(default_factory=dict)
    """Of Python and the packages."""

    @property
    def env(self) -> str:
        """The environment's id."""
        return str(self.contract.get("env"))


_TYPES: dict[str, Any] = {
    "contract": dict,
    "seed": int,
    "options": dict | None,
    "steps": int,
    "actions": list | dict,
    "kind": str,
    "what": str,
    "traceback": str,
    "memory_limit": int | None,
    "versions": dict,
}


@dataclass(frozen=True)
class Outcome:
    """How playing a capsule again went."""

    failure: Failure | None
    """None: it went through all its actions."""
    steps: int
    """How many actions it took, with the one that failed."""
    reproduced: bool
    """It failed in the same way and place."""


def versions() -> dict[str, str]:
    """Of what a failure may depend on."""
    packages = {name: version(name) for name in ("gymnasium", "numpy")}
    return {"python": platform.python_version(), "asyncrl": __version__, **packages}


def write(
    folder: str | Path,
    contract: dict[str, Any],
    *,
    seed: int,
    options: dict[str, Any] | None,
    actions: Sequence[Any],
    action_space: gymnasium.Space[Any],
    failure: Failure,
    memory_limit: int | None = None,
) -> Path:
    """Write a capsule as a new file in `folder`, which is made; returns its path."""
    capsule = Capsule(
        contract=contract,
        seed=seed,
        options=options,
        steps=len(actions),
        actions=action_space.to_jsonable(actions),
        kind=failure.kind.value,
        what=failure.what,
        traceback=failure.traceback,
        memory_limit=memory_limit,
        versions=versions(),
    )
    lines = [f'  "{name}": {json.dumps(value, default=repr)}' for name, value in vars(capsule).items()]
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    Path(folder).mkdir(parents=True, exist_ok=True)
    name = f"capsule-{re.sub(r'[^A-Za-z0-9.]+', '_', contract['env'])}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    number = 1
    while True:
        path = Path(folder) / f"{name}-{number}.json"
        try:
            with open(path, "x", encoding="utf-8") as file:
                file.write(text)
            return path
        except FileExistsError:
            number += 1


def load(path: str | Path) -> Capsule:
    """Read a capsule. Raises UsageError that names the file and the reason where it is none."""
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise UsageError(f"{path} cannot be read as a crash capsule: {problem}") from None
    if not isinstance(data, dict):
        raise UsageError(f"{path} is no crash capsule: it holds no JSON object")
    for name, kinds in _TYPES.items():
        if name not in data:
            raise UsageError(f"{path} is no crash capsule: it has no {name!r}")
        if not isinstance(data[name], kinds):
            raise UsageError(f"{path} is damaged: its {name!r} cannot be {data[name]!r}")
    if data["kind"] not in {kind.value for kind in Kind}:
        raise UsageError(f"{path} is damaged: its 'kind' cannot be {data['kind']!r}")
    return Capsule(**{name: data[name] for name in _TYPES})


def replay(capsule: Capsule, make: Callable[[], gymnasium.Env[Any, Any]], *, step_timeout: float = 60.0) -> Outcome:
    """Play a capsule's episode in a worker process, so that nothing it does harms this one.

    Raises EnvironmentFault where the environment cannot even be made, UsageError where its actions are others.
    """
    place = Workplace(make, 1)
    worker = place.start(0)
    try:
        try:
            ready = worker.ready(step_timeout)
        except Failed as problem:
            raise EnvironmentFault(f"{capsule.env} {problem.failure.what}", problem.failure.traceback) from None
        place.open(ready)
        try:
            actions = list(ready.action_space.from_jsonable(capsule.actions))
        except (TypeError, ValueError, KeyError) as problem:
            raise UsageError(f"the capsule's actions are none of {ready.action_space}: {problem}") from None
        return _played(capsule, place, worker, actions, step_timeout)
    finally:
        worker.kill()
        place.close()


def _played(
    capsule: Capsule, place: Workplace, worker: WorkerProcess, actions: Sequence[Any], step_timeout: float
) -> Outcome:
    failure, steps = None, 0
    try:
        worker.ask_reset(0, capsule.seed, capsule.options)
        worker.hear(0, time.monotonic() + step_timeout, step_timeout)
        for action in actions:
            if place.board.terminated[0] or place.board.truncated[0]:
                return Outcome(None, steps, reproduced=False)
            steps += 1
            worker.ask_step(0, action)
            worker.hear(0, time.monotonic() + step_timeout, step_timeout)
        failure = worker.too_large(capsule.memory_limit)
    except Failed as problem:
        failure = problem.failure
    same = failure is not None and (failure.kind.value, steps) == (capsule.kind, capsule.steps)
    return Outcome(failure, steps, reproduced=same)
