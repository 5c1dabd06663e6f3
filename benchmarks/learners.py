"""Processor time of an update, by the number of learners: what each of them and all together spend on it.

    python benchmarks/learners.py [REPEATS]

Updates from the same rollouts of Pong, with the Nature network in fp32 and one thread per learner. On idle cores an update
takes about as long as the busiest learner computes; processor time can be measured beside other programs as well.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from typing import Any

import psutil

from asyncrl.acting.actor import Actor
from asyncrl.api import configure
from asyncrl.common.torch_setup import set_torch_threads
from asyncrl.engines import Memory, MemoryPlan
from asyncrl.engines.learners import open_learners
from asyncrl.envs import describe_all
from asyncrl.experience.rollout import Ticket
from asyncrl.runs.components import actor_spec, make_learner
from asyncrl.runs.config.resolution import resolve

COMMON: dict[str, Any] = dict(network="nature-cnn", precision="fp32", engine="serial", learner_threads=1, actors=2)
CASES: dict[str, dict[str, Any]] = {
    "a3c": dict(t_max=20, envs_per_actor=16, rollouts_per_update=2),
    "ppo": dict(t_max=128, envs_per_actor=4, epochs=1, minibatches=4),
}


def seconds_of(algorithm: str, learners: int, repeats: int) -> dict[str, float]:
    """Median seconds of an update: elapsed, of the busiest learner's processor time, and of all learners together."""
    given = configure("ALE/Pong-v5", algorithm, learners=learners, **COMMON, **CASES[algorithm])
    contract = describe_all(given.env_ids, given.environment)
    config = resolve(given, contract)
    set_torch_threads(1)
    spec, learner = actor_spec(config, contract), make_learner(config, contract)
    plan = MemoryPlan(spec.layout(), config.actors, 1, learner.weights.numel())
    memory, actor = Memory(plan, plan.allocate()), Actor(spec, 0)
    memory.publish(0, learner.weights)
    for slot in range(config.actors):
        memory.fill(actor, Ticket(slot, 0, 0, slot, 0))
    actor.close()
    found = []
    with open_learners(config, contract, learner):
        for _ in range(repeats + 1):
            before, began = _times(), time.perf_counter()
            learner.update(memory.slots)
            elapsed = time.perf_counter() - began
            spent = [now - then for now, then in zip(_times(), before, strict=True)]
            found.append((elapsed, max(spent), sum(spent)))
    elapsed, busiest, together = (statistics.median(column) for column in zip(*found[1:], strict=True))
    return {"elapsed": round(elapsed, 3), "busiest": round(busiest, 3), "together": round(together, 3)}


def _times() -> list[float]:
    """Processor seconds so far of this process and those that it started."""
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    return [process.cpu_times().user + process.cpu_times().system for process in processes]


if __name__ == "__main__":
    for name in CASES:
        for count in (1, 2):
            measured = seconds_of(name, count, int(sys.argv[1]) if len(sys.argv) > 1 else 5)
            print(json.dumps({"algorithm": name, "learners": count, **measured}), flush=True)
