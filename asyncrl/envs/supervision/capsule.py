"""Crash capsules: a JSON file from which an episode that ended in a failure can be played again.

It holds the environment's contract, the seed of the episode, all its actions, and what went wrong.
"""

from __future__ import annotations

import json
import math
import os
import platform
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from asyncrl.common import signing
from asyncrl.common.serialization import from_json, read_json
from asyncrl.common.validation import within
from asyncrl.envs.supervision.worker import Failure, FailureKind
from asyncrl.envs.supervision.worker_process import Failed, WorkerPool, WorkerProcess
from asyncrl.errors import EnvironmentFault, UsageError
from asyncrl.version import __version__

__all__ = ["Capsule", "ReplayResult", "load", "replay", "versions", "write"]


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
    """How it failed: a value of `FailureKind`."""
    what: str
    """The failure in a few words."""
    traceback: str
    """The environment's own."""
    memory_limit: int | None = None
    """MiB that its worker might use."""
    versions: dict[str, str] = field(default_factory=dict)
    """Of Python and the packages."""
    stranger: str | None = field(default=None, metadata={"saved": False})
    """The file that it was read from, where this user has not written it."""

    @property
    def env(self) -> str:
        """The environment's id."""
        return str(self.contract.get("env"))


_MOST_BYTES = 256 * 2**20
"""Of a capsule: an episode's actions may be many."""
_KIND = "capsule"
"""What a capsule's signature is for."""


@dataclass(frozen=True)
class ReplayResult:
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
    facts = {name: json.dumps(value, default=repr) for name, value in vars(capsule).items() if name != "stranger"}
    facts["signature"] = json.dumps(signing.sign(_KIND, _content({name: json.loads(x) for name, x in facts.items()})))
    text = "{\n" + ",\n".join(f'  "{name}": {value}' for name, value in facts.items()) + "\n}\n"
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


def _content(facts: Mapping[str, Any]) -> str:
    """What a capsule's signature is of."""
    return json.dumps({name: value for name, value in facts.items() if name != "signature"}, sort_keys=True)


def load(path: str | Path) -> Capsule:
    """Read a capsule. Raises UsageError that names the file and the reason where it is none."""
    data = read_json(Path(path), _MOST_BYTES)
    if not isinstance(data, dict):
        raise UsageError(f"{path} is no crash capsule: it holds no JSON object")
    required = [field.name for field in fields(Capsule) if field.name not in ("stranger", "signature")]
    for name in required:
        if name not in data:
            raise UsageError(f"{path} is no crash capsule: it has no {name!r}")
    stranger = None if signing.is_signed(_KIND, _content(data), data.get("signature")) else str(path)
    try:
        capsule = from_json(Capsule, {name: data[name] for name in required})
        _check(capsule)
    except UsageError as problem:
        raise UsageError(f"{path} is damaged: {problem}") from None
    return replace(capsule, stranger=stranger)


def _check(capsule: Capsule) -> None:
    """Raise UsageError for what cannot be in a capsule."""
    within(capsule, 0, math.inf, "seed", "steps")
    within(capsule, 1, math.inf, "memory_limit")
    if capsule.kind not in {kind.value for kind in FailureKind}:
        raise UsageError(f"its 'kind' cannot be {capsule.kind[:80]!r}")
    if not isinstance(capsule.actions, list | dict):
        raise UsageError("its 'actions' are no list and no table")


def replay(capsule: Capsule, make: Callable[[], gymnasium.Env[Any, Any]], *, step_timeout: float = 60.0) -> ReplayResult:
    """Play a capsule's episode in a worker process, so that nothing it does harms this one.

    Raises EnvironmentFault where the environment cannot even be made, UsageError where its actions are others.
    """
    place = WorkerPool(make, 1)
    worker = place.start(0)
    try:
        try:
            ready = worker.ready(step_timeout)
        except Failed as problem:
            raise EnvironmentFault(f"{capsule.env} {problem.failure.what}", problem.failure.traceback) from None
        place.open(ready)
        try:
            actions = list(ready.action_space.from_jsonable(capsule.actions))
            if not all(
                isinstance(action, dict | tuple) or np.shape(action) == ready.action_space.shape for action in actions
            ):
                raise ValueError("one of them has another shape")
        except Exception as problem:  # whatever a space makes of what is no action
            raise UsageError(f"the capsule's actions are none of {ready.action_space}: {problem}") from None
        return _played(capsule, place, worker, actions, step_timeout)
    finally:
        worker.kill()
        place.close()


def _played(
    capsule: Capsule, place: WorkerPool, worker: WorkerProcess, actions: Sequence[Any], step_timeout: float
) -> ReplayResult:
    failure, steps = None, 0
    try:
        worker.send_reset(0, capsule.seed, capsule.options)
        worker.receive(0, time.monotonic() + step_timeout, step_timeout)
        for action in actions:
            if place.buffers.terminated[0] or place.buffers.truncated[0]:
                return ReplayResult(None, steps, reproduced=False)
            steps += 1
            worker.send_step(0, action)
            worker.receive(0, time.monotonic() + step_timeout, step_timeout)
        failure = worker.too_large(capsule.memory_limit)
    except Failed as problem:
        failure = problem.failure
    same = failure is not None and (failure.kind.value, steps) == (capsule.kind, capsule.steps)
    return ReplayResult(failure, steps, reproduced=same)
