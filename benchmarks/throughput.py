"""Measure speed, memory and policy lag by the number of actors and environments, rollout length, network and screen.

    .venv/bin/python benchmarks/throughput.py
    .venv/bin/python benchmarks/throughput.py --only network --seconds 5

Every point is an `asyncrl bench` of `a3c` on Pong in a new process: first each stage alone, whose rates give the bound,
then the training. All but one setting of a series are those of `BASE`. Results go to benchmarks/results/throughput.json
and throughput.png.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import tyro

from asyncrl.api import configure
from asyncrl.bench.report import bench
from asyncrl.plots.style import MUTED, colour, dress, large_numbers, legend, new_figure
from asyncrl.runs.provenance import machine

RESULTS = Path(__file__).parent / "results"
ENV = "PongNoFrameskip-v4"
BASE: dict[str, Any] = dict(
    network="nature-cnn", actors=2, envs_per_actor=8, t_max=20, engine="processes", precision="fp32"
)
POWERS = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True)
class Series:
    """Points that differ in one setting."""

    title: str
    setting: str
    values: tuple[Any, ...]
    changes: dict[str, Any]
    """What else differs from `BASE`."""

    def points(self) -> Iterator[dict[str, Any]]:
        """Yield the settings of every point."""
        for value in self.values:
            settings = {**BASE, **self.changes, self.setting: value}
            lockstep = dict(rollouts_per_update=settings["actors"], lag=1)
            yield settings if "schedule" in settings else settings | lockstep


SERIES = {
    "actors": Series("actors, 1 environment each", "actors", POWERS, dict(envs_per_actor=1)),
    "actors-free": Series(
        "actors, 1 environment each, free schedule", "actors", POWERS[::2],
        dict(envs_per_actor=1, schedule="free", rollouts_per_update=1),
    ),
    "environments": Series("environments of each of 2 actors", "envs_per_actor", POWERS[:-1], {}),
    "rollout": Series("steps per rollout", "t_max", (5, 20, 80), {}),
    "network": Series("network", "network", ("a3c-cnn", "nature-cnn", "impala-resnet"), {}),
    "screen": Series("pixels per side of a frame", "screen_size", (42, 84, 168), {}),
}  # fmt: skip


@dataclass(frozen=True)
class Arguments:
    seconds: float = 2.0
    """Seconds of each of a point's four measurements."""
    only: tuple[Literal[tuple(SERIES)], ...] = tuple(SERIES)  # type: ignore[valid-type]
    """Series to measure; the results of the others are kept."""


def measure(settings: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Return the figures of one point."""
    found = bench(configure(ENV, "a3c", **settings), seconds)
    return {
        "training": round(found.end_to_end, 1),
        "bound": round(found.bound, 1),
        "stages": {name: round(getattr(found, name), 1) for name in ("environment", "acting", "learning")},
        "memory_bytes": found.memory_bytes,
        "policy_lag": round(found.policy_lag, 2),
        "cpu": round(found.cpu, 3),
        "bottleneck": found.verdict["bottleneck"],
        "verdict": found.verdict["verdict"],
    }


def measured(series: Series, seconds: float) -> list[dict[str, Any]]:
    """Measure the points of a series, one after another."""
    rows = []
    for value, settings in zip(series.values, series.points(), strict=True):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            found = process.submit(measure, settings, seconds).result()
        rows.append({"value": value, **found})
        print(row_of(series, rows[-1]), flush=True)
    return rows


def row_of(series: Series, row: dict[str, Any]) -> str:
    """Return a point as a row of a Markdown table."""
    share, memory = row["training"] / row["bound"], row["memory_bytes"] / 2**20
    cells = (
        series.title, row["value"], f"{row['training']:,.0f}", f"{row['bound']:,.0f}", f"{share:.0%}",
        f"{memory:,.0f} MiB", f"{row['policy_lag']:g}", row["bottleneck"],
    )  # fmt: skip
    return "| " + " | ".join(map(str, cells)) + " |"


def plot(results: dict[str, list[dict[str, Any]]], file: Path) -> None:
    """Draw training, its bound and the memory of every series."""
    figure = new_figure(10, 5.6)
    for axis, (name, rows) in zip(figure.subplots(2, 3).flat, results.items(), strict=True):
        series, places = SERIES[name], range(len(rows))
        dress(axis, title=series.title, y="steps/s")
        lines = [
            *axis.plot(places, [row["training"] for row in rows], color=colour(0), marker="o", label="training"),
            *axis.plot(places, [row["bound"] for row in rows], color=MUTED, linestyle="--", label="bound"),
        ]
        axis.set_ylim(0)
        axis.set_xticks(places, [str(row["value"]) for row in rows])
        large_numbers(axis, "y")
        memory = axis.twinx()
        dress(memory, y="GiB", grid="")
        sizes = [row["memory_bytes"] / 2**30 for row in rows]
        lines += memory.plot(places, sizes, color=colour(1), marker=".", linestyle=":", label="memory (right axis)")
        memory.set_ylim(0)
    legend(figure, lines, [str(line.get_label()) for line in lines])
    figure.savefig(file)


def main() -> None:
    asked = tyro.cli(Arguments, description=__doc__)
    file = RESULTS / "throughput.json"
    results = json.loads(file.read_text())["results"] if file.is_file() else {}
    print(
        "| series | value | steps/s | bound | share | memory | policy lag | bottleneck |\n|---|---|---|---|---|---|---|---|"
    )
    for name, series in SERIES.items():
        if name in asked.only:
            results[name] = measured(series, asked.seconds)
            report = {"command": " ".join(sys.argv), "machine": machine(), "env": ENV, "base": BASE, "results": results}
            file.write_text(json.dumps(report, indent=1) + "\n")
    if results.keys() == SERIES.keys():
        plot({name: results[name] for name in SERIES}, RESULTS / "throughput.png")


if __name__ == "__main__":
    main()
