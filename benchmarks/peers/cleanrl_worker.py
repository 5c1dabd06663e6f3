"""Measure the training speed of a CleanRL script in its virtual environment; prints one JSON object.

The script runs unedited. A stand-in for TensorBoard's writer reads the step of each logged update and writes nothing.
Scripts that use EnvPool also get the older gym and EnvPool interfaces that they were written for.
"""

from __future__ import annotations

import contextlib
import sys
import types
from pathlib import Path
from typing import Any

import envpool
import gymnasium
import torch
from task import Stopwatch, Task, answer


class Complete(Exception):
    """Ends the script when the measurement is complete."""


class OldWrapper:
    """gym.Wrapper, as in gym 0.23: attributes that it lacks are those of the environment."""

    def __init__(self, env: Any) -> None:
        self.env = env

    def __getattr__(self, name: str) -> Any:
        return getattr(self.env, name)

    def reset(self, **options: Any) -> Any:
        return self.env.reset(**options)

    def step(self, action: Any) -> Any:
        return self.env.step(action)


class OldPool(OldWrapper):
    """An EnvPool with the interface of gym 0.23: no info after a reset, one flag for the end of an episode."""

    def reset(self, **options: Any) -> Any:
        return self.env.reset(**options)[0]

    def step(self, action: Any) -> Any:
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, reward, terminated | truncated, info


def install(stopwatch: Stopwatch) -> None:
    """Put the stand-ins where the script's imports find them."""

    class Writer:
        def __init__(self, folder: str) -> None:
            pass

        def add_text(self, name: str, text: str) -> None:
            pass

        def add_scalar(self, name: str, value: Any, step: int) -> None:
            if name == "charts/SPS" and stopwatch.read(step):
                raise Complete

    board, gym, make = types.ModuleType("tensorboard"), types.ModuleType("gym"), envpool.make
    board.SummaryWriter = Writer  # type: ignore[attr-defined]
    gym.Wrapper, gym.spaces = OldWrapper, gymnasium.spaces  # type: ignore[attr-defined]
    sys.modules |= {"torch.utils.tensorboard": board, "gym": gym}
    setattr(envpool, "make", lambda *args, **options: OldPool(make(*args, **options)))


def options(task: Task) -> list[str]:
    """Return the script's options that make environments and batches those of the case."""
    case = task.case
    values = {
        "env-id": case.peer_env or case.env,
        "num-envs": case.envs,
        "num-steps": task.t,
        "num-minibatches": case.minibatches,
        "update-epochs": case.epochs,
        "total-timesteps": 10**9,
    }
    words = [word for name, value in values.items() for word in (f"--{name}", str(value))]
    return [*words, "--no-cuda", *(["--no-clip-vloss"] if case.method == "ppo" else [])]


def main() -> None:
    task = Task.given()
    torch.set_num_threads(task.how.threads or torch.get_num_threads())
    stopwatch = task.stopwatch
    install(stopwatch)
    script = Path(task.script)
    sys.argv = [script.name, *options(task)]
    names: dict[str, Any] = {"__name__": "__main__", "__file__": str(script)}
    with contextlib.suppress(Complete):
        exec(compile(script.read_text(), str(script), "exec"), names)
    network = names["agent"] if task.case.method == "ppo" else names["q_network"]
    answer(stopwatch, sum(p.numel() for p in network.parameters()), ("torch", "envpool", "gymnasium"))


if __name__ == "__main__":
    main()
