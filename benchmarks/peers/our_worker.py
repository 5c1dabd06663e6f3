"""Measure asyncrl's training speed in one configuration of a case; prints one JSON object."""

from __future__ import annotations

import signal
import tempfile
from dataclasses import fields
from typing import Any

from cases import Network
from task import Stopwatch, Task, answer

from asyncrl.algorithms import algorithm_named
from asyncrl.api import configure
from asyncrl.bench.stages import Stage, capacity
from asyncrl.common.fork_pool import prepare
from asyncrl.common.serialization import to_json
from asyncrl.envs import describe
from asyncrl.launch import start
from asyncrl.monitor import Record
from asyncrl.runs.checkpoints import checkpoint
from asyncrl.runs.config.resolution import resolve
from asyncrl.runs.config.run_config import RunConfig
from asyncrl.runs.lookup import checkpoint_folder

NAMES = {"a2c": "a3c"}
"""Methods with another name in asyncrl."""
FOREVER = 10**9


class View:
    """A sink that notes the time of every record and ends training when the measurement is complete."""

    def __init__(self, stopwatch: Stopwatch) -> None:
        self.stopwatch = stopwatch

    def write(self, record: Record) -> None:
        if record["kind"] != "train" or self.stopwatch.is_complete:
            return
        if self.stopwatch.read(record["step"], record["time"]):
            signal.raise_signal(signal.SIGTERM)

    def say(self, line: str) -> None:
        pass

    def close(self) -> None:
        pass


def configuration(task: Task) -> RunConfig:
    """Return the run's settings: the algorithm's own defaults instead of a preset's, then those of the case."""
    case, how = task.case, task.how
    algorithm = algorithm_named(NAMES.get(case.method, case.method))
    settings: dict[str, Any] = {**to_json(algorithm.optimizer), **network(case.network), **schedule(task)}
    if case.batch_size:
        settings |= dict(capacity=case.capacity, batch_size=case.batch_size, learning_starts=case.learning_starts)
        settings |= dict(replay_ratio=1 / case.update_every)
    if case.method == "dqn":
        settings |= dict(double=False, n_step=1, dueling=False, target_every=10_000)
    known = {field.name for field in fields(algorithm)}
    settings |= {name: getattr(case, name) for name in ("epochs", "minibatches") if name in known}
    if how.backend != "auto":
        settings["env_backend"] = how.backend
    return configure(case.env, algorithm(), **settings)


def schedule(task: Task) -> dict[str, Any]:
    """Return the settings of actors, engine, learner and records."""
    case, how = task.case, task.how
    return dict(
        steps=FOREVER,
        t_max=task.t,
        actors=how.actors,
        envs_per_actor=case.envs // how.actors,
        rollouts_per_update=how.actors,
        lag=how.lag,
        engine=how.place,
        learner_threads=how.threads,
        precision=task.precision,
        normalize_return=False,
        eval_episodes=0,
        eval_every=0,
        checkpoint_every=FOREVER,
        log_every=max(case.record_every, case.envs * task.t),
    )


def network(wanted: Network) -> dict[str, Any]:
    """Return the settings of the network."""
    if not wanted.hidden:
        return dict(network="nature-cnn", centered=False, layer_norm=wanted.layer_norm)
    return dict(network="mlp", hidden=list(wanted.hidden), activation=wanted.activation, layer_norm=wanted.layer_norm)


def bound(config: RunConfig, seconds: float) -> float:
    """Return the steps per second at which all cores could step, act and learn if nothing else took time."""
    contract = describe(config.env, config.environment)
    resolved = resolve(config, contract)
    return 1 / sum(1 / capacity(stage, resolved, contract, seconds).steps_per_second for stage in Stage)


def main() -> None:
    task = Task.given()
    prepare()
    config, view = configuration(task), View(task.stopwatch)
    with tempfile.TemporaryDirectory() as folder:
        run, _ = start(config, f"{folder}/run", view)
        parameters = checkpoint.load(checkpoint_folder(run.path, prefer="latest")).weights().numel()
    more = {"bound": bound(config, max(1.0, task.seconds / 2))} if task.case.bound else {}
    answer(view.stopwatch, parameters, ("asyncrl", "torch", "ale-py", "gymnasium"), **more)


if __name__ == "__main__":
    main()
