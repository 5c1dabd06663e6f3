"""How far exported policies are from their agents, and how long a step of each takes.

    .venv/bin/python benchmarks/export.py
    .venv/bin/python benchmarks/export.py --only lstm

An agent of each method is trained for a few updates and exported, which compares both on observations of the agent's
episodes. Then both act on one observation at a time, on one thread: the agent's policy in torch and the model in
onnxruntime, in alternating blocks, of which the fastest counts.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
import tyro

import asyncrl
from asyncrl.algorithms import ActContext
from asyncrl.runs.provenance import machine

RESULTS = Path(__file__).parent / "results" / "export.json"
REPLAY: dict[str, Any] = dict(capacity=2_000, learning_starts=500, batch_size=16)
RAINBOW: dict[str, Any] = dict(dueling=True, noisy=True)
SEQUENCES: dict[str, Any] = dict(recurrent="lstm", sequence_length=8, t_max=8)
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "a3c": ("a3c", "CartPole-v1", {}),
    "a3c, lstm": ("a3c", "CartPole-v1", dict(recurrent="lstm")),
    "ppo, gru": ("ppo", "CartPole-v1", dict(recurrent="gru")),
    "ppo, continuous": ("ppo", "Pendulum-v1", dict(normalize_observation=True)),
    "dqn": ("dqn", "CartPole-v1", REPLAY),
    "dqn, lstm": ("dqn", "CartPole-v1", REPLAY | SEQUENCES),
    "c51, dueling, noisy": ("c51", "CartPole-v1", REPLAY | RAINBOW),
    "qr-dqn": ("qr-dqn", "CartPole-v1", REPLAY),
    "iqn": ("iqn", "CartPole-v1", REPLAY),
    "pqn": ("pqn", "CartPole-v1", {}),
    "sac": ("sac", "Pendulum-v1", REPLAY),
    "td3": ("td3", "Pendulum-v1", REPLAY),
    "a3c, nature-cnn": ("a3c", "ALE/Pong-v5", dict(network="nature-cnn")),
    "a3c, nature-cnn, lstm": ("a3c", "ALE/Pong-v5", dict(network="nature-cnn", recurrent="lstm")),
    "dqn, nature-cnn": ("dqn", "ALE/Pong-v5", REPLAY | dict(network="nature-cnn")),
    "impala, impala-resnet": ("impala", "ALE/Pong-v5", dict(network="impala-resnet")),
}
"""Algorithm, environment and settings, by name. Precision is fp32, as in the exported models."""


@dataclass(frozen=True)
class Arguments:
    steps: int = 2_000
    """Steps of training."""
    observations: int = 1_000
    only: str = ""
    """Methods whose name contains this."""
    out: Path = RESULTS


def measured(name: str, steps: int, observations: int, folder: Path) -> dict[str, Any]:
    algorithm, env, settings = CASES[name]
    common: dict[str, Any] = dict(steps=steps, engine="serial", eval_episodes=0, precision="fp32", progress=False)
    run = asyncrl.train(env, algorithm, run_dir=folder / "run", **{**common, **settings})
    began = time.monotonic()
    exported = asyncrl.export(run, folder / "onnx", observations=observations)
    seconds = round(time.monotonic() - began, 1)
    in_torch, in_onnx = timed(run, exported.model, exported.facts)
    return {
        "method": name,
        "environment": env,
        "bytes": exported.model.stat().st_size,
        "observations": exported.parity.observations,
        "differences": {output: float(f"{value:.2g}") for output, value in exported.parity.differences.items()},
        "export_seconds": seconds,
        "torch_us": in_torch,
        "onnxruntime_us": in_onnx,
    }


def timed(run: Any, model: Path, facts: Any, blocks: int = 40, calls: int = 40) -> tuple[float, float]:
    """Return the microseconds of a step of the agent's policy and of the exported one."""
    agent = asyncrl.load(run)
    torch.set_num_threads(1)  # training sets its own number
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options)
    given = {one["name"]: np.zeros((1, *one["shape"][1:]), one["dtype"]) for one in facts["inputs"]}
    observation, state = torch.from_numpy(given["observation"]), agent.policy.initial_state(1)
    context = ActContext.evaluation(torch.Generator(), greedy=True)
    steps: list[Callable[[], Any]] = [
        lambda: agent.policy.act(observation, state, context),
        lambda: session.run(None, given),
    ]
    times: list[list[float]] = [[], []]
    for _ in range(blocks):
        for step, found in zip(steps, times, strict=True):
            began = time.perf_counter()
            for _ in range(calls):
                step()
            found.append((time.perf_counter() - began) / calls * 1e6)
    in_torch, in_onnx = (round(min(found), 1) for found in times)
    return in_torch, in_onnx


def main() -> None:
    asked = tyro.cli(Arguments, description=__doc__)
    rows = []
    for name in CASES:
        if asked.only not in name:
            continue
        with tempfile.TemporaryDirectory() as folder:
            rows.append(measured(name, asked.steps, asked.observations, Path(folder)))
        print(json.dumps(rows[-1]), flush=True)
    command = " ".join(["benchmarks/export.py", *sys.argv[1:]])
    asked.out.write_text(json.dumps({"command": command, "machine": machine(), "methods": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
