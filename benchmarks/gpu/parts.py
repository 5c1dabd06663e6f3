"""The parts of the measurements on a GPU (`measure.py`): each is a function that returns what it found."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from asyncrl.acting.actor import Actor
from asyncrl.algorithms import ActContext
from asyncrl.algorithms.exploration import EnvSlots
from asyncrl.api import evaluate, resume, tailor
from asyncrl.bench.stages import learning_starts, with_early_learning
from asyncrl.bench.trials import train_briefly
from asyncrl.common.randomness import Stream, generator
from asyncrl.engines import Memory, MemoryPlan
from asyncrl.envs import describe
from asyncrl.experience.rollout import Ticket
from asyncrl.gradients import Gradients
from asyncrl.launch import start
from asyncrl.monitor import Record, Stop
from asyncrl.runs.components import actor_spec, make_learner
from asyncrl.runs.config.resolution import resolve
from asyncrl.runs.config.run_config import Device, EngineKind, RunConfig
from asyncrl.runs.run import Run

__all__ = ["PARTS", "Bench"]

PONG = "PongNoFrameskip-v4"
TARGET = 18.0
"""Mean return of the last 100 training episodes that ends the run on Pong."""


@dataclass(frozen=True)
class Bench:
    """Where one part runs."""

    device: str
    engine: str
    scale: float
    """Factor of all lengths: below 1 to try the script."""
    folder: Path
    results: Path

    def config(self, env: str, algorithm: str, **settings: Any) -> RunConfig:
        off: dict[str, Any] = dict(eval_episodes=0, device=self.device, engine=self.engine)
        return tailor(env, algorithm, settings.pop("preset", None), **{**off, **settings})

    def train(self, name: str, config: RunConfig, **more: Any) -> Run:
        run, _ = start(config, self.folder / name, **more)
        return run

    def report(self, found: dict[str, Any]) -> None:
        """Write what the part has found so far."""
        (self.results / "part.json").write_text(json.dumps(found))

    def steps(self, number: int) -> int:
        return max(200, round(number * self.scale))

    def seconds(self, number: float) -> float:
        return max(0.5, number * self.scale)


def weights(run: Run) -> str:
    return str(json.loads((run.marked("latest") / "manifest.json").read_text())["weights_sha256"])[:16]


def first_losses(run: Run, count: int = 3) -> list[float]:
    return [record["loss"] for record in run.records() if record["kind"] == "train" and record.get("loss")][:count]


SMALL = dict(steps=400, actors=2, envs_per_actor=2, lag=1, precision="fp32", seed=7, log_every=1)
MEMORY = dict(learning_starts=100, capacity=2_000, target_every=200)
CASES: dict[str, dict[str, Any]] = {
    "a3c": dict(t_max=10),
    "dqn": MEMORY,
    "ppo": dict(t_max=25, epochs=2, minibatches=2),
    "a3c, LSTM": dict(t_max=10, recurrent="lstm"),
    "c51, Rainbow": dict(MEMORY, preset="rainbow/atari"),
    "pqn": dict(t_max=25, epochs=2, minibatches=2),
    "iqn": MEMORY,
    "impala, ResNet": dict(t_max=10, network="impala-resnet"),
}
"""Settings by name; the name's first word is the algorithm."""


def equality(bench: Bench) -> dict[str, Any]:
    """Weights by engine, without CUDA graphs, and with the replay buffer on the device; first losses beside the CPU's."""
    found: dict[str, Any] = {}
    for name, more in CASES.items():
        try:
            found[name] = _compared(bench, name, more)
        except Exception:  # the next case may work
            found[name] = {"failed": traceback.format_exc()[-700:]}
        bench.report(found)
    return found


def _compared(bench: Bench, name: str, more: dict[str, Any]) -> dict[str, Any]:
    config = bench.config(PONG, name.split(",")[0], **{**SMALL, **more})
    serial = replace(config, engine=EngineKind.SERIAL)
    kinds = (EngineKind.SERIAL, EngineKind.THREADS, EngineKind.PROCESSES)
    runs = {kind.value: bench.train(f"{name}-{kind.value}", replace(config, engine=kind)) for kind in kinds}
    with mock.patch.object(Gradients, "_capture", return_value=None):
        runs["without graphs"] = bench.train(f"{name}-plain", serial)
    if more.get("capacity") and bench.device == "cuda":
        on_gpu = bench.config(PONG, name.split(",")[0], **{**SMALL, **more}, replay_storage="gpu", engine="serial")
        runs["replay on the GPU"] = bench.train(f"{name}-replay", on_gpu)
    cpu = bench.train(f"{name}-cpu", replace(serial, device=Device.CPU))
    hashes = {one: weights(run) for one, run in runs.items()}
    return {
        "equal": len(set(hashes.values())) == 1,
        "weights": hashes,
        "losses": [first_losses(cpu), first_losses(runs["serial"])],
    }


def resumed(bench: Bench) -> dict[str, Any]:
    """Whether a run that was extended has the weights of one that ran through (the optimizer's state is restored)."""
    found: dict[str, Any] = {}
    half, whole = bench.steps(2_000), bench.steps(4_000)
    memory = dict(learning_starts=100, capacity=2_000)
    for algorithm, env, more in (
        ("a3c", PONG, dict(optimizer="adam", learning_rate_schedule="constant")),
        ("ppo", "CartPole-v1", dict(learning_rate_schedule="constant")),
        ("dqn", "CartPole-v1", memory | dict(epsilon_steps=1_000, learning_rate_schedule="constant")),
        ("sac", "Pendulum-v1", memory),
    ):
        config = bench.config(env, algorithm, **more)
        through = bench.train(f"{algorithm}-through", replace(config, steps=whole))
        parts = bench.train(f"{algorithm}-parts", replace(config, steps=half))
        found[algorithm] = {"equal": weights(through) == weights(resume(parts, steps=whole, progress=False))}
    return found


def engines(bench: Bench) -> dict[str, Any]:
    """The weights after a short run on every engine: actors in processes act on the CPU, others on the device."""
    config = bench.config("CartPole-v1", "a3c", steps=bench.steps(4_000))
    kinds = (EngineKind.SERIAL, EngineKind.THREADS, EngineKind.PROCESSES)
    return {kind.value: weights(bench.train(kind.value, replace(config, engine=kind))) for kind in kinds}


def emulator(bench: Bench) -> dict[str, Any]:
    """Steps per second of ale-py's vector environment with random actions and nothing else: the ceiling."""
    from ale_py.vector_env import AtariVectorEnv

    cores, envs = len(os.sched_getaffinity(0)), 32 if bench.scale == 1 else 4
    vectors = [AtariVectorEnv("pong", envs, num_threads=cores, reward_clipping=False) for _ in range(2)]
    counts, until = [0, 0], 0.0

    def step(group: int) -> None:
        random = np.random.default_rng(group)
        while time.perf_counter() < until:
            vectors[group].step(random.integers(0, 6, envs))
            counts[group] += envs

    for vector in vectors:
        vector.reset()
    began = time.perf_counter()
    until = began + bench.seconds(4)
    threads = [threading.Thread(target=step, args=(group,)) for group in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"steps_per_second": round(sum(counts) / (time.perf_counter() - began))}


class Gauge:
    """Utilisation and memory of the GPU, four times a second."""

    def __init__(self) -> None:
        self._readings: list[tuple[float, float]] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        query = ["nvidia-smi", "--query-gpu=utilization.gpu,memory.used", "--format=csv,noheader,nounits", "-lms", "250"]
        try:
            process = subprocess.Popen(query, stdout=subprocess.PIPE, text=True)
        except FileNotFoundError:
            return
        assert process.stdout is not None
        for line in process.stdout:
            if self._ended.is_set():
                break
            used, memory = map(float, line.split(","))
            self._readings.append((used, memory))
        process.kill()

    def take(self) -> dict[str, float]:
        """The median utilisation in percent, of the second half, and the largest memory in MiB."""
        self._ended.set()
        late = self._readings[len(self._readings) // 2 :]
        if not late:
            return {}
        return {"gpu_percent": statistics.median(x for x, _ in late), "gpu_mib": max(x for _, x in self._readings)}


METHODS: dict[str, dict[str, Any]] = {
    "a3c": dict(network="nature-cnn", rollouts_per_update=2, lag=2),
    "impala": dict(network="nature-cnn", rollouts_per_update=2, lag=2),
    "ppo": dict(network="nature-cnn", t_max=128, epochs=4, minibatches=4, lag=1),
    "pqn": dict(network="nature-cnn", lag=1),
    "dqn": dict(network="nature-cnn", batch_size=256, replay_ratio=1 / 32, replay_storage="gpu", t_max=8, lag=1),
    "impala, ResNet": dict(network="impala-resnet", rollouts_per_update=2, lag=2),
}
"""Settings of the speed measurements; the name's first word is the algorithm. All act in 4 × 32 environments."""


def speed(name: str) -> Callable[[Bench], dict[str, Any]]:
    """Return the measurement of one method: a short training."""

    def measured(bench: Bench) -> dict[str, Any]:
        settings = {**METHODS[name], "actors": 4, "envs_per_actor": 32 if bench.scale == 1 else 4}
        settings["env_threads"] = max(1, len(os.sched_getaffinity(0)) // 2)
        if bench.device == "cpu":
            settings.pop("replay_storage", None)
        gauge = Gauge()
        trial = train_briefly(
            bench.config(PONG, name.split(",")[0], **settings), bench.seconds(5), rate=20_000 * bench.scale
        )
        found: dict[str, Any] = {"steps_per_second": round(trial.rate), "whole_seconds": round(trial.seconds, 1)}
        return found | ({} if trial.times is None else trial.times.fields()) | gauge.take()

    return measured


def graphs(bench: Bench) -> dict[str, Any]:
    """Milliseconds of choosing actions and of a gradient, operation by operation and as a CUDA graph."""
    found: dict[str, Any] = {}
    for name, settings in METHODS.items():
        found[name] = _compared_graphs(bench, name, settings)
        bench.report(found)
    return found


def _compared_graphs(bench: Bench, name: str, settings: dict[str, Any]) -> dict[str, Any]:
    envs = 64 if bench.scale == 1 else 2
    storage = {} if bench.device == "cuda" or "replay_storage" not in settings else {"replay_storage": "ram"}
    config = bench.config(PONG, name.split(",")[0], **{**settings, **storage}, actors=1, envs_per_actor=envs)
    contract = describe(config.env, config.environment)
    config = with_early_learning(resolve(replace(config, rollouts_per_update=1), contract))
    spec, learner = actor_spec(config, contract), make_learner(config, contract)
    plan = MemoryPlan(spec.layout(), num_slots=1, num_buffers=1, num_weights=learner.weights.numel())
    memory, actor = Memory(plan, plan.allocate()), Actor(spec, 0)
    memory.publish(0, learner.weights)
    memory.fill(actor, Ticket(0, 0, 0, 0, 0))
    while learner.step <= learning_starts(config):
        learner.update(memory.slots)
    context = learner._context(generator(0, Stream.LEARNER, 0), contract.rewards, steps=1_000)
    batch = next(iter(learner._experience.batches(memory.slots, context)))

    def gradient() -> None:
        with torch.enable_grad():
            loss, norm = learner._gradients.loss(batch, is_shared=False)
            if norm is None:
                learner._gradients.backward(loss)

    act = ActContext.training(generator(0, Stream.ACTOR), step=0, slots=EnvSlots.of(0, 0, envs))
    observation, state = actor._observation, actor.policy.initial_state(envs)
    calls = {"acting": lambda: actor.policy.act(observation, state, act), "gradient": gradient}
    as_graphs = {one: _milliseconds(call) for one, call in calls.items()}
    actor.policy._on_device._capture, learner._gradients._captured = None, None
    actor.policy._on_device._graphs.clear()
    found = {one: {"operations": _milliseconds(call), "graph": as_graphs[one]} for one, call in calls.items()}
    actor.close()
    return found


def _milliseconds(call: Callable[[], object], repeats: int = 20) -> float:
    """The median duration of a call and of what it starts on the GPU."""
    seconds = []
    for _ in range(repeats + 3):
        began = time.perf_counter()
        call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return round(1e3 * statistics.median(seconds[3:]), 3)


def profile(bench: Bench) -> dict[str, Any]:
    """The operations of some updates of a3c that take the GPU longest."""
    from torch.profiler import ProfilerActivity, profile

    config = bench.config(PONG, "a3c", network="nature-cnn", envs_per_actor=16, steps=bench.steps(6_400))
    config = replace(config, engine=EngineKind.SERIAL)
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * torch.cuda.is_available()
    with profile(activities=activities) as profiled:
        bench.train("profiled", config)
    by = "self_cuda_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
    table = profiled.key_averages().table(sort_by=by, row_limit=25, max_name_column_width=60)
    (bench.results / "profile.txt").write_text(table)
    return {"rows": len(profiled.key_averages())}


def pong(bench: Bench) -> dict[str, Any]:
    """PPO on Pong without sticky actions until the mean of 100 training episodes is 18; then 30 games are evaluated."""
    began = time.monotonic()
    seen: list[tuple[float, int, float]] = []

    def reached(record: Record) -> Stop | None:
        if record["kind"] != "train" or record["mean_return"] is None:
            return None
        seen.append((round(time.monotonic() - began, 1), record["step"], record["mean_return"]))
        return Stop("18") if record["mean_return"] >= TARGET and record["episodes"] >= 100 else None

    spread = dict(actors=8, envs_per_actor=3, env_threads=3)  # the preset's 2 × 12 environments
    config = bench.config(PONG, "ppo", **spread, steps=bench.steps(3_000_000), log_every=6_000, seed=1)
    run = bench.train("pong", config, callbacks=[reached])
    seconds = time.monotonic() - began
    shutil.copy(run.path / "metrics.jsonl", bench.results / "pong.jsonl")
    scores = evaluate(run.path, episodes=30 if bench.scale == 1 else 1)
    return {"seconds": round(seconds, 1), "curve": seen[:: max(1, len(seen) // 12)] + seen[-1:], "evaluation": scores.mean}


PARTS: dict[str, tuple[float, Callable[[Bench], dict[str, Any]]]] = {
    "equality": (110, equality),
    "engines": (40, engines),
    "graphs": (60, graphs),
    "resume": (60, resumed),
    "emulator": (40, emulator),
    **{f"speed, {name}": (45, speed(name)) for name in METHODS},
    "pong": (150, pong),
    "profile": (40, profile),
}
"""Time limit in seconds and function of each part, in order."""
