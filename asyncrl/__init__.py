"""Asynchronous deep reinforcement learning: many actors, one learner, one training semantics.

>>> import asyncrl
>>> run = asyncrl.train("CartPole-v1", "a3c", steps=200_000)
>>> asyncrl.evaluate(run, episodes=10).mean
>>> agent = asyncrl.load(run)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from asyncrl.errors import (
    ActorDied,
    AsyncRLError,
    CheckpointError,
    DivergenceError,
    EnvironmentFault,
    LearnerDied,
    ScheduleError,
    SinkWarning,
    SystemFault,
    UsageError,
)
from asyncrl.version import __version__

if TYPE_CHECKING:
    from asyncrl.agents.evaluation import Evaluation
    from asyncrl.api import (
        Agent,
        evaluate,
        export,
        load,
        play,
        play_yourself,
        pretrain,
        record,
        resume,
        share,
        train,
    )
    from asyncrl.dashboard.process import watch
    from asyncrl.monitor.callbacks import Evaluate, Save, Stop
    from asyncrl.plots import plot
    from asyncrl.runs.run import Run
    from asyncrl.studies.benchmark import benchmark
    from asyncrl.studies.comparison import compare
    from asyncrl.studies.tuning.search import tune

__all__ = [
    "ActorDied",
    "Agent",
    "AsyncRLError",
    "CheckpointError",
    "DivergenceError",
    "EnvironmentFault",
    "Evaluate",
    "Evaluation",
    "LearnerDied",
    "Run",
    "Save",
    "ScheduleError",
    "SinkWarning",
    "Stop",
    "SystemFault",
    "UsageError",
    "__version__",
    "benchmark",
    "compare",
    "evaluate",
    "export",
    "load",
    "play",
    "play_yourself",
    "plot",
    "pretrain",
    "record",
    "resume",
    "share",
    "train",
    "tune",
    "watch",
]

_LAZY = {
    "Agent": "api",
    "Evaluate": "monitor.callbacks",
    "Evaluation": "agents.evaluation",
    "Run": "runs.run",
    "Save": "monitor.callbacks",
    "Stop": "monitor.callbacks",
    "benchmark": "studies.benchmark",
    "compare": "studies.comparison",
    "evaluate": "api",
    "export": "api",
    "load": "api",
    "play": "api",
    "play_yourself": "api",
    "plot": "plots",
    "pretrain": "api",
    "record": "api",
    "resume": "api",
    "share": "api",
    "train": "api",
    "tune": "studies.tuning.search",
    "watch": "dashboard.process",
}


def __getattr__(name: str) -> Any:
    """Import torch and the rest at the first use: environment workers and `--version` do not need them."""
    if name not in _LAZY:
        raise AttributeError(f"module 'asyncrl' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"asyncrl.{_LAZY[name]}"), name)
