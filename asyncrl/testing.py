"""Test helpers for custom algorithms, networks and environments: equal weights on every engine, exact resumption.

>>> from asyncrl.testing import check_lockstep
>>> def test_my_algorithm_is_the_same_on_every_engine():
...     check_lockstep("CartPole-v1", MyAlgorithm, t_max=8)
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from asyncrl.algorithms import AlgorithmSource
from asyncrl.common.child_process import HAS_WORKERS
from asyncrl.envs import EnvSource, describe_all
from asyncrl.launch import newest_checkpoint, resume, start
from asyncrl.runs.checkpoints import checkpoint
from asyncrl.runs.components import make_learner
from asyncrl.runs.config.resolution import resolve
from asyncrl.runs.config.run_config import RunConfig
from asyncrl.runs.config.settings import tailor
from asyncrl.runs.run import Run

__all__ = ["ENGINES", "check_lockstep", "check_resume"]

ENGINES = ("serial", "threads", "processes") if HAS_WORKERS else ("serial", "threads")
"""The engines that lockstep holds for on this system."""

_UPDATES = 4
"""Updates of a run whose length is not given."""
_SMALL: dict[str, Any] = dict(actors=3, envs_per_actor=4, lag=2, rollouts_per_update=2, eval_episodes=0, seed=5)


def check_lockstep(
    env: EnvSource, algorithm: AlgorithmSource = "a3c", *, engines: Iterable[str] = ENGINES, **settings: Any
) -> dict[str, Tensor]:
    """Train the same short run on several engines. Returns the weights that it ends with, by parameter.

    Args:
        env: Environment id, class, or a function that makes an environment.
        algorithm: Name, class or instance of the algorithm.
        engines: The engines to compare.
        settings: Settings of the run, for example `steps=2_000`, `network=MyEncoder`. Default: three actors with four
            environments each, lag 2, two rollouts per update, and as many steps as four updates take, or eighty with a
            replay buffer.

    Raises:
        AssertionError: If the weights differ, with the engines and the first parameter that does; or if the run learned
            nothing, which would prove nothing.
        UsageError: For settings that are unknown, impossible or without effect.
    """
    settings = _small(env, algorithm, settings)
    with tempfile.TemporaryDirectory() as folder:
        weights = {}
        for engine in engines:
            run = _trained(tailor(env, algorithm, **{**settings, "engine": engine}), Path(folder) / engine)
            weights[engine] = newest_checkpoint(run).tensors("weights")
    (first, expected), *others = weights.items()
    for engine, found in others:
        _compare(expected, found, first, engine)
    return expected


def check_resume(
    env: EnvSource, algorithm: AlgorithmSource = "a3c", *, engines: Iterable[str] = ENGINES, **settings: Any
) -> dict[str, Tensor]:
    """Train a short run in one go and, on each of `engines`, from its middle. Returns the weights that it ends with.

    Arguments and errors are those of `check_lockstep`.
    """
    settings = _small(env, algorithm, settings)
    halves = {"checkpoint_every": settings["steps"] // 2, "keep_checkpoints": _UPDATES}
    with tempfile.TemporaryDirectory() as folder:
        whole = tailor(env, algorithm, **{**halves, **settings, "engine": "serial"})
        run = _trained(whole, Path(folder) / "whole")
        expected = newest_checkpoint(run).tensors("weights")
        for engine in engines:
            part = Run(Path(shutil.copytree(run.path, Path(folder) / engine)))
            middle, *later = (path for path in part.checkpoints() if int(path.name))  # there is one of the beginning, too
            if not later:
                raise AssertionError(f"the run has a single checkpoint, at step {int(middle.name):,}; raise steps")
            for path in later:
                checkpoint.delete(path)
            resumed, _ = resume(part, engine=engine)
            found = newest_checkpoint(resumed).tensors("weights")
            _compare(expected, found, "an uninterrupted run", f"one resumed on {engine}")
    return expected


def _small(env: EnvSource, algorithm: AlgorithmSource, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a short run, with its steps."""
    chosen = {**_SMALL, **settings}
    if "steps" in chosen:
        return chosen
    config = tailor(env, algorithm, **chosen)
    updates = _UPDATES if config.algorithm.experience().replay is None else 20 * _UPDATES
    return {**chosen, "steps": updates * config.batch_steps}


def _trained(config: RunConfig, folder: Path) -> Run:
    """The run of `config`. Raises AssertionError if it learned nothing."""
    run, result = start(config, folder)
    if result.update < 2:
        raise AssertionError(f"a run of {config.steps:,} steps makes fewer than two updates; raise steps")
    contract = describe_all(config.env_ids, config.environment)
    initial = make_learner(resolve(config, contract), contract, with_replay=False).weights
    if config.init_from is None and initial.equal(newest_checkpoint(run).weights().to(initial.device)):
        raise AssertionError(f"the weights are the initial ones after {config.steps:,} steps: nothing was learned")
    return run


def _compare(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], ours: str, theirs: str) -> None:
    """Raise AssertionError for the first parameter that differs."""
    for name, tensor in expected.items():
        other = found[name]
        if not tensor.equal(other):
            count, largest = int((tensor != other).sum()), float((tensor - other).abs().max())
            raise AssertionError(
                f"{ours} and {theirs} end with different weights: {name} differs in {count:,} of {tensor.numel():,} "
                f"numbers, by up to {largest:.3g}"
            )
