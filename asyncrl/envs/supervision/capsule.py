"""Crash capsules: JSON files from which an episode that ended in a failure can be replayed.

A capsule holds the environment's contract, the episode's seed and actions, and the failure.
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
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from asyncrl.common import signing
from asyncrl.common.packages import version_of
from asyncrl.common.serialization import from_json, read_json
from asyncrl.common.validation import within
from asyncrl.envs.supervision.worker import Failure, FailureKind
from asyncrl.envs.supervision.worker_process import Deadline, Failed, WorkerPool, WorkerProcess
from asyncrl.errors import EnvironmentFault, UsageError
from asyncrl.version import __version__

__all__ = ["Capsule", "ReplayResult", "load", "replay", "versions", "write"]


@dataclass(frozen=True)
class Capsule:
    """A failed episode."""

    contract: dict[str, Any]
    """The environment's `Contract` as JSON."""
    seed: int
    """Seed of the episode's reset."""
    options: dict[str, Any] | None
    """Options of the episode's reset."""
    steps: int
    """Number of actions, the last of which failed. 0: the reset failed."""
    actions: Any
    """Actions in the form of `action_space.to_jsonable`."""
    kind: str
    """A value of `FailureKind`."""
    what: str
    """The failure as a predicate of the environment."""
    traceback: str
    """The environment's traceback."""
    memory_limit: int | None = None
    """MiB that the worker was allowed to use."""
    versions: dict[str, str] = field(default_factory=dict)
    """Versions of Python and of packages."""
    untrusted_source: str | None = field(default=None, metadata={"saved": False})
    """The file it was read from, if this user did not write it."""

    @property
    def env(self) -> str:
        """The environment's id."""
        return str(self.contract.get("env"))


_MAX_BYTES = 256 * 2**20
"""Largest capsule that is read; an episode may have many actions."""
_KIND = "capsule"
"""The kind of file that a signature is for."""


@dataclass(frozen=True)
class ReplayResult:
    """The result of replaying a capsule."""

    failure: Failure | None
    """None if all actions succeeded."""
    steps: int
    """Number of actions taken, including the one that failed."""
    reproduced: bool
    """Whether the same kind of failure occurred at the same step."""


def versions() -> dict[str, str]:
    """Return the versions that a failure may depend on."""
    packages = {name: version_of(name) for name in ("gymnasium", "numpy")}
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
    """Write a capsule as a new file in `folder`, which is created if missing; returns its path."""
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
    facts = {name: json.dumps(value, default=repr) for name, value in vars(capsule).items() if name != "untrusted_source"}
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
    """Return the text that a capsule's signature covers."""
    return json.dumps({name: value for name, value in facts.items() if name != "signature"}, sort_keys=True)


def load(path: str | Path) -> Capsule:
    """Read a capsule. Raises UsageError with the reason for a file that is not a valid capsule."""
    if not Path(path).exists():
        raise UsageError(f"capsule {path} does not exist")
    data = read_json(Path(path), _MAX_BYTES)
    if not isinstance(data, dict):
        raise UsageError(f"{path} is not a crash capsule: it does not hold a JSON object")
    required = [field.name for field in fields(Capsule) if field.name not in ("untrusted_source", "signature")]
    for name in required:
        if name not in data:
            raise UsageError(f"{path} is not a crash capsule: it lacks {name!r}")
    untrusted_source = None if signing.is_signed(_KIND, _content(data), data.get("signature")) else str(path)
    try:
        capsule = from_json(Capsule, {name: data[name] for name in required})
        _check(capsule)
    except UsageError as problem:
        raise UsageError(f"{path} is damaged: {problem}") from None
    return replace(capsule, untrusted_source=untrusted_source)


def _check(capsule: Capsule) -> None:
    """Raise UsageError for values that no capsule has."""
    within(capsule, 0, math.inf, "seed", "steps")
    within(capsule, 1, math.inf, "memory_limit")
    if capsule.kind not in {kind.value for kind in FailureKind}:
        raise UsageError(f"'kind' cannot be {capsule.kind[:80]!r}")
    if not isinstance(capsule.actions, list | dict):
        raise UsageError("'actions' must be a list or a table")


def replay(capsule: Capsule, make: Callable[[], gymnasium.Env[Any, Any]], *, step_timeout: float = 60.0) -> ReplayResult:
    """Replay a capsule's episode in a worker process, where it can do no harm to this one.

    Raises EnvironmentFault if the environment cannot be made, UsageError if it takes other actions.
    """
    pool = WorkerPool(make, 1)
    worker = pool.start(0)
    try:
        try:
            ready = worker.ready(step_timeout)
        except Failed as problem:
            raise EnvironmentFault(f"{capsule.env} {problem.failure.what}", problem.failure.traceback) from None
        pool.open(ready)
        try:
            actions = list(ready.action_space.from_jsonable(capsule.actions))
            shapes = {np.shape(action) for action in actions if not isinstance(action, dict | tuple)}
            if not shapes <= {ready.action_space.shape}:
                raise ValueError("their shape differs")
        except Exception as problem:  # spaces raise anything for values that are not actions
            raise UsageError(f"the capsule's actions do not fit {ready.action_space}: {problem}") from None
        return _replay_actions(capsule, pool, worker, actions, step_timeout)
    finally:
        worker.kill()
        pool.close()


def _replay_actions(
    capsule: Capsule, pool: WorkerPool, worker: WorkerProcess, actions: Sequence[Any], step_timeout: float
) -> ReplayResult:
    failure = None
    steps = 0
    try:
        worker.send_reset(0, capsule.seed, capsule.options)
        worker.receive(0, Deadline(step_timeout))
        for action in actions:
            if pool.buffers.terminated[0] or pool.buffers.truncated[0]:
                return ReplayResult(None, steps, reproduced=False)
            steps += 1
            worker.send_step(0, action)
            worker.receive(0, Deadline(step_timeout))
        failure = worker.memory_failure(capsule.memory_limit)
    except Failed as problem:
        failure = problem.failure
    is_same = failure is not None and (failure.kind.value, steps) == (capsule.kind, capsule.steps)
    return ReplayResult(failure, steps, reproduced=is_same)
