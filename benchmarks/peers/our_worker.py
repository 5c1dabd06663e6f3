"""Measure asyncrl's training speed in the peer's configuration; prints one JSON object.

python our_worker.py a2c|dqn ENV ENVS T SECONDS ENGINE
"""

from __future__ import annotations

import json
import signal
import sys
import tempfile
from importlib.metadata import version

from asyncrl.api import configure
from asyncrl.engines.workers import prepare
from asyncrl.launch import start
from asyncrl.monitor import Record
from asyncrl.runs import checkpoint
from asyncrl.runs.lookup import checkpoint_folder

WARM_UP = 5.0
ACTORS = {"a2c": 2, "dqn": 1}
"""Threads of DQN's learner: both cores."""


class Stopwatch:
    """A view that records the time of every update and ends training `seconds` after the warm-up."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.marks: list[tuple[float, int]] = []

    def write(self, record: Record) -> None:
        if record["kind"] == "train" and record["time"] >= WARM_UP:
            self.marks.append((record["time"], record["step"]))
            if self.marks[-1][0] - self.marks[0][0] >= self.seconds:
                signal.raise_signal(signal.SIGTERM)

    def say(self, line: str) -> None:
        pass

    def close(self) -> None:
        pass


def main() -> None:
    method, env, envs, steps, seconds, engine = sys.argv[1:]
    prepare()
    memory = dict(capacity=50_000, learning_starts=1_000, double=False, n_step=1, dueling=False, target_every=10_000)
    config = configure(
        env,
        {"a2c": "a3c", "dqn": "dqn"}[method],
        steps=10**9,
        network="nature-cnn",
        centered=False,
        t_max=int(steps),
        actors=ACTORS[method],
        envs_per_actor=int(envs) // ACTORS[method],
        rollouts_per_update=ACTORS[method],
        lag=1,
        engine=engine,
        eval_episodes=0,
        checkpoint_every=10**9,
        log_every=int(envs) * int(steps) * 10,
        **(memory if method == "dqn" else {}),
    )
    stopwatch = Stopwatch(float(seconds))
    with tempfile.TemporaryDirectory() as folder:
        run, _ = start(config, f"{folder}/run", stopwatch)
        parameters = checkpoint.load(checkpoint_folder(run.path, prefer="latest")).weights().numel()
    (began, first), (ended, last) = stopwatch.marks[0], stopwatch.marks[-1]
    print(
        json.dumps(
            {
                "steps_per_second": (last - first) / (ended - began),
                "parameters": parameters,
                "versions": {name: version(name) for name in ("asyncrl", "torch", "ale-py", "gymnasium")},
            }
        )
    )


if __name__ == "__main__":
    main()
