"""Compare end-to-end training speed with Stable-Baselines3 and CleanRL on one machine.

    .venv/bin/python benchmarks/peers/compare.py a2c dqn --repeats 3 --seconds 15
    .venv/bin/python benchmarks/peers/compare.py ppo cartpole-ppo --cleanrl ~/cleanrl

The cases are in cases.py. In each, all sides train the same network (its parameters are counted on every side) with the
same batches on the same environment; Atari has 84×84 gray frames, stack 4, frame skip 4 with the maximum of two frames, no
sticky actions and clipped rewards. A short trial finds each side's best configuration (engine or vector environment, torch
threads); these then run in turns, so drift of the machine affects all of them, and the medians of rounds are reported:
speed, processor time per million steps, and memory (proportional set size) of all processes of a side.

Every peer runs in a separate virtual environment, created here once, with the same torch. CleanRL's scripts run unedited,
with EnvPool on Atari. `impala` has no peer; it is compared with the bound of `asyncrl bench`. Results go to
benchmarks/results/compare-CASE.json and, as tables, to standard output.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from cases import CASES
from task import Task
from venvs import cleanrl_script, python_of

from asyncrl.runs.provenance import machine

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent / "results"
WORKERS = {"asyncrl": "our_worker.py", "sb3": "sb3_worker.py", "cleanrl": "cleanrl_worker.py"}

Run = dict[str, Any]
"""A task's side, configuration and T, and the worker's answer."""


@dataclass(frozen=True)
class Arguments:
    cases: tyro.conf.Positional[tuple[Literal[tuple(CASES)], ...]]  # type: ignore[valid-type]
    """Cases to measure, one after another; all if none is named."""
    t: tuple[int, ...] = ()
    """Steps per rollout, instead of the case's own."""
    repeats: int = 3
    """Rounds; their median is reported."""
    seconds: float = 30.0
    """Seconds per measurement; they end with the first update after that."""
    warm_up: float = 5.0
    """Seconds of training before each measurement."""
    pilot: float = 3.0
    """Seconds per configuration in the trial that chooses each side's best one. 0: no trial; all configurations run in
    every round, and each round's best one counts."""
    precision: Literal["auto", "fp32"] = "auto"
    """asyncrl's precision; auto computes convolutions in bfloat16 if the processor can, which the peers do not."""
    peers: tuple[Literal["sb3", "cleanrl"], ...] = ("sb3", "cleanrl")
    """Peers to compare with."""
    cleanrl: Annotated[Path | None, tyro.conf.arg(help_behavior_hint="(default: $CLEANRL)")] = None
    """A clone of vwxyzjn/cleanrl, which may be a bare one."""
    out: Path = RESULTS
    """Folder of the results."""

    def configurations(self, name: str) -> list[tuple[str, str]]:
        """Return side and name of every configuration of a case with the peers asked for."""
        sides = [(side, own) for side, own in CASES[name].sides.items() if side in ("asyncrl", *self.peers)]
        return [(side, one.name) for side, own in sides for one in own]

    def script(self, name: str) -> Path:
        """Return CleanRL's script of a case."""
        return cleanrl_script(self.cleanrl or os.environ.get("CLEANRL"), CASES[name].script)


def measure(asked: Arguments, name: str, side: str, configuration: str, steps: int, *, pilot: bool = False) -> Run:
    """Measure one configuration of a side once, in a separate process."""
    case = CASES[name]
    script = asked.script(name) if side == "cleanrl" else ""
    times = (asked.pilot, 0.0) if pilot else (asked.seconds, asked.warm_up)
    task = Task(name, side, configuration, steps, *times, asked.precision, str(script))
    words = [str(python_of(side)), str(HERE / WORKERS[side]), task.argument]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name}: {side} ({configuration}) ended with {done.returncode}:\n{done.stderr}")
    found: Run = json.loads(done.stdout.splitlines()[-1])
    assert found["parameters"] == case.parameters, (case.parameters, found)
    rate, kind = found["steps_per_second"], "trial" if pilot else ""
    line = f"{name:<13} {side:<8} {configuration:<27} T={steps:<4} {rate:>8,.0f} steps/s {kind}"
    print(line, file=sys.stderr, flush=True)
    return {"side": side, "kind": configuration, "t": steps, **found}


def pilots(asked: Arguments, name: str, steps: int) -> list[Run]:
    """Try every configuration of the sides that have several."""
    pairs = asked.configurations(name)
    count = Counter(side for side, _ in pairs)
    return [measure(asked, name, *pair, steps, pilot=True) for pair in pairs if asked.pilot and count[pair[0]] > 1]


def best(runs: list[Run]) -> dict[str, Run]:
    """Return each side's fastest run."""
    found: dict[str, Run] = {}
    for run in runs:
        if run["side"] not in found or run["steps_per_second"] > found[run["side"]]["steps_per_second"]:
            found[run["side"]] = run
    return found


def chosen(pairs: list[tuple[str, str]], trials: list[Run]) -> list[tuple[str, str]]:
    """Return the configurations to measure: each side's best in the trial, all without a trial."""
    winners = best(trials)
    return [(side, kind) for side, kind in pairs if side not in winners or winners[side]["kind"] == kind]


def ratios(rounds: list[list[Run]]) -> dict[str, float]:
    """Return asyncrl's speed as a multiple of each peer's and as a share of its bound: the median of the rounds' ratios."""
    found: dict[str, list[float]] = {}
    for runs in rounds:
        fastest = best(runs)
        ours = fastest.pop("asyncrl")
        references = {side: run["steps_per_second"] for side, run in fastest.items()}
        references |= {"bound": ours["bound"]} if "bound" in ours else {}
        for side, rate in references.items():
            found.setdefault(side, []).append(ours["steps_per_second"] / rate)
    return {side: round(statistics.median(values), 3) for side, values in found.items()}


FIGURES = ("steps_per_second", "busy_cores", "memory_bytes")
"""What the table shows of each run."""


def medians(runs: list[Run]) -> dict[tuple[str, str], tuple[float, ...]]:
    """Return the medians of `FIGURES` by side and configuration."""
    found: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        found.setdefault((run["side"], run["kind"]), []).append(run)
    return {pair: tuple(statistics.median(run[name] for run in own) for name in FIGURES) for pair, own in found.items()}


def table(name: str, parts: list[dict[str, Any]]) -> str:
    """Return a case's results as a Markdown table, one row for each configuration; a ratio compares each side's best."""
    heads = ("case", "T", "side", "configuration", "trial", "steps/s", "asyncrl is", "core-seconds per million", "memory")
    rows = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for part in parts:
        tried = {(run["side"], run["kind"]): f"{run['steps_per_second']:,.0f}" for run in part["trials"]}
        measured = medians(part["runs"])
        for pair in dict.fromkeys([*tried, *measured]):
            cells = [name, str(part["t"]), *pair, tried.get(pair, "")]
            if pair in measured:
                rate, busy, memory = measured[pair]
                is_best = rate == max(own for (side, _), (own, *_) in measured.items() if side == pair[0])
                ratio = f"{part['ratios'][pair[0]]:.2f} ×" if is_best and pair[0] in part["ratios"] else ""
                cells += [f"{rate:,.0f}", ratio, f"{busy / rate * 1e6:,.0f}", f"{memory / 2**20:,.0f} MiB"]
            rows.append(f"| {' | '.join(cells + [''] * (len(heads) - len(cells)))} |")
        if "bound" in part["ratios"]:
            bounds = statistics.median(run["bound"] for run in part["runs"])
            rows.append(f"| {name} | {part['t']} | bound | | | {bounds:,.0f} | {part['ratios']['bound']:.0%} of it | | |")
    return "\n".join(rows)


def compare(asked: Arguments, name: str, steps: int) -> dict[str, Any]:
    """Measure one case with rollouts of so many steps."""
    trials = pilots(asked, name, steps)
    pairs = chosen(asked.configurations(name), trials)
    rounds = [[measure(asked, name, *pair, steps) for pair in pairs] for _ in range(asked.repeats)]
    runs = [run for one in rounds for run in one]
    return {"t": steps, "ratios": ratios(rounds), "trials": trials, "runs": runs}


def main() -> None:
    asked = tyro.cli(Arguments, description=__doc__)
    names = asked.cases or tuple(CASES)
    for name in names:
        for side in dict.fromkeys(side for side, _ in asked.configurations(name)):
            python_of(side)
            if side == "cleanrl":
                asked.script(name)
    asked.out.mkdir(exist_ok=True)
    for name in names:
        parts = [compare(asked, name, steps) for steps in asked.t or CASES[name].t]
        print(table(name, parts), flush=True)
        merged = {
            "ratios": {part["t"]: part["ratios"] for part in parts},
            **{kind: [run for part in parts for run in part[kind]] for kind in ("trials", "runs")},
        }
        report = {"command": " ".join(sys.argv), "machine": machine(), "precision": asked.precision, **merged}
        suffix = "" if asked.precision == "auto" else f"-{asked.precision}"
        (asked.out / f"compare-{name}{suffix}.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
