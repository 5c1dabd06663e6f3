"""Predict steps per second, learner saturation, policy lag and cost of a run on 1 to 512 nodes (cluster_model.py).

    asyncrl bench ALE/Pong-v5 --json > bench.json
    .venv/bin/python benchmarks/cluster.py --figures bench.json          # what this machine measured
    .venv/bin/python benchmarks/cluster.py   # the figures of benchmarks/results/cluster-figures.json

Each workload is asked about with the learner as measured on one core, and with one that is `--faster-learner` times as
fast (several cores or a GPU): that factor is an assumption, as are the network and the price. Results go to
benchmarks/results/cluster-model.json and cluster-model.png.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import tyro
from cluster_model import Cluster, Outcome, Policy, Workload, simulate

from asyncrl.envs import describe_all
from asyncrl.runs.components import actor_spec, make_learner
from asyncrl.runs.config.resolution import resolve
from asyncrl.runs.config.run_config import RunConfig

RESULTS = Path(__file__).parent / "results"
NODES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


@dataclass(frozen=True)
class Arguments:
    figures: tuple[Path, ...] = ()
    """Output of `asyncrl bench ENV --json`. Default: benchmarks/results/cluster-figures.json."""
    nodes: tuple[int, ...] = NODES
    cores: int = Cluster.cores
    """Cores per node."""
    network_rate: float = Cluster.network_rate
    """Bytes per second of a node's network, in each direction."""
    latency: float = Cluster.latency
    """Seconds of a message between nodes."""
    dollars: float = Cluster.dollars
    """Price of a core for an hour."""
    rollouts: int = 64
    """Rollouts per update of the schedule free; lockstep learns from one of every actor."""
    faster_learner: float = 50.0
    """How many times as fast as one core the faster learner is."""
    save: bool = True
    """Write the results to benchmarks/results/."""


def figures_of(bench: dict[str, Any]) -> Workload:
    """The workload that a report of `asyncrl bench --json` describes. Its rates are those of all cores together."""
    plain = RunConfig.from_json(bench["config"])
    contract = describe_all(plain.env_ids, plain.environment)
    config = resolve(plain, contract)
    layout = actor_spec(config, contract).layout()
    cores, steps = bench["machine"]["cores"], layout.steps * layout.envs
    seconds = {stage: cores / bench[stage]["steps_per_second"] for stage in ("environment", "acting", "learning")}
    return Workload(
        name=f"{config.algorithm.name} {config.network.network}, {config.env}, {layout.steps} × {layout.envs}",
        rollout_steps=steps,
        rollout_bytes=layout.nbytes,
        weight_bytes=4 * make_learner(config, contract, with_replay=False).weights.numel(),
        acting=steps * (seconds["environment"] + seconds["acting"]),
        learning=steps * seconds["learning"],
    )


def table(outcomes: list[Outcome]) -> str:
    """The outcomes by number of nodes, for the terminal."""
    lines = ["  nodes  actors    steps/s  learner  network  lag (max)  core·s/Msteps   $/Msteps"]
    for one in outcomes:
        lines.append(
            f"{one.nodes:7}{one.actors:8}{one.steps_per_second:11,.0f}{one.learner_busy:9.0%}{one.network_busy:9.0%}"
            f"{one.policy_lag:6.1f} ({one.policy_lag_max}){one.core_seconds:13,.0f}{one.dollars:12.3f}"
        )
    return "\n".join(lines)


def main(asked: Arguments) -> None:
    """Predict, print and save."""
    if asked.figures:
        workloads = [figures_of(json.loads(path.read_text())) for path in asked.figures]
    else:
        known = json.loads((RESULTS / "cluster-figures.json").read_text())
        workloads = [Workload(**one) for one in known["workloads"]]
    base = Cluster(cores=asked.cores, network_rate=asked.network_rate, latency=asked.latency, dollars=asked.dollars)
    found: list[dict[str, Any]] = []
    for workload in workloads:
        for factor in (1.0, asked.faster_learner):
            faster = replace(workload, learning=workload.learning / factor)
            for policy in (Policy(), Policy("free", asked.rollouts)):
                outcomes = [simulate(faster, replace(base, nodes=nodes), policy) for nodes in asked.nodes]
                print(f"\n{workload.name}, learner × {factor:g}, {policy.schedule}\n{table(outcomes)}")
                found.append({
                    "workload": workload.name, "learner": factor, "schedule": policy.schedule,
                    "outcomes": [asdict(one) for one in outcomes],
                })  # fmt: skip
    if asked.save:
        assumed = {name: value for name, value in asdict(base).items() if name != "nodes"}
        facts = {"assumed": {**assumed, "free_rollouts": asked.rollouts}, "workloads": [asdict(one) for one in workloads]}
        (RESULTS / "cluster-model.json").write_text(json.dumps({**facts, "runs": found}, indent=1) + "\n")
        draw(found, RESULTS / "cluster-model.png")


def draw(found: list[dict[str, Any]], path: Path) -> None:
    """Steps per second and learner saturation by number of nodes."""
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(one["workload"] for one in found))
    figure = Figure(figsize=(9, 3.2 * len(names)), layout="constrained")
    for row, axes in zip(names, figure.subplots(len(names), 2, squeeze=False), strict=True):
        for one in (one for one in found if one["workload"] == row):
            nodes = [outcome["nodes"] for outcome in one["outcomes"]]
            style = {"marker": "o", "markersize": 3, "linestyle": "-" if one["schedule"] == "lockstep" else "--"}
            label = f"learner × {one['learner']:g}, {one['schedule']}"
            axes[0].plot(nodes, [outcome["steps_per_second"] for outcome in one["outcomes"]], label=label, **style)
            axes[1].plot(nodes, [outcome["learner_busy"] for outcome in one["outcomes"]], label=label, **style)
        for axis, title in zip(axes, ("steps per second", "share of time in which the learner learns"), strict=True):
            axis.set(title=title, xlabel="nodes", xscale="log")
            axis.set_xticks(nodes, [str(count) for count in nodes])
            axis.minorticks_off()
        axes[0].set(yscale="log", ylabel=row.replace(", ", "\n"))
        axes[1].set(ylim=(0, 1.05))
        axes[0].legend(fontsize=8)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
