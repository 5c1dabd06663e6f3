"""Asynchronous deep reinforcement learning: many actors, one learner, one training semantics.

>>> import asyncrl
>>> run = asyncrl.train("CartPole-v1", "a3c", steps=200_000)
>>> agent = asyncrl.load(run.path)
>>> asyncrl.evaluate(agent, episodes=10).mean
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from asyncrl.errors import (
    ActorDied,
    AsyncRLError,
    CheckpointError,
    DivergenceError,
    EnvironmentFault,
    ScheduleError,
    SystemFault,
    UsageError,
)
from asyncrl.version import __version__

if TYPE_CHECKING:
    from asyncrl.api import Agent, evaluate, load, train
    from asyncrl.play.evaluation import Evaluation
    from asyncrl.runs.run import Run

__all__ = [
    "ActorDied",
    "Agent",
    "AsyncRLError",
    "CheckpointError",
    "DivergenceError",
    "EnvironmentFault",
    "Evaluation",
    "Run",
    "ScheduleError",
    "SystemFault",
    "UsageError",
    "__version__",
    "evaluate",
    "load",
    "train",
]

_LAZY = {
    "Agent": "api",
    "evaluate": "api",
    "load": "api",
    "train": "api",
    "Evaluation": "play.evaluation",
    "Run": "runs.run",
}


def __getattr__(name: str) -> Any:
    """Import torch and the rest with the first use: environment workers and `--version` do without."""
    if name not in _LAZY:
        raise AttributeError(f"module 'asyncrl' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"asyncrl.{_LAZY[name]}"), name)
