"""Runs the commands of a study, several at once. Each is a separate process, as if it were typed."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from asyncrl.common.signals import StopRequest
from asyncrl.envs import Contract
from asyncrl.runs.config.resolution import resolve
from asyncrl.runs.config.run_config import RunConfig
from asyncrl.runs.run import Run
from asyncrl.studies.launchers import Command, Launcher, Process
from asyncrl.studies.processes import cores_of, last_line
from asyncrl.studies.study import Cell, Result, Study
from asyncrl.studies.suite import words

__all__ = ["HELD_OUT", "command_of", "run_grid"]

HELD_OUT = 1_000_003
"""Seed of the evaluation environments. Runs have small seeds, so it is the seed of no training."""
_POLL = 0.1
"""Seconds between polls of the processes."""


def run_grid(
    study: Study,
    launcher: Launcher,
    configurations: Mapping[tuple[str, str], tuple[RunConfig, Contract]],
    jobs: int | None,
    *,
    trust: bool,
    stop: StopRequest,
    say: Callable[[str], None],
) -> Study:
    """Run what is missing of a study, `jobs` runs at a time, each a process of `launcher`. Returns it with the results.

    `configurations`: by environment and method, not yet resolved.

    Finished runs are not repeated, and begun ones continue. After a stop signal, runs save a checkpoint and end. A run that
    fails is noted in `failures`; the others go on.
    """
    waiting, total, began = study.unfinished(), len(study.cells()), time.monotonic()
    at_start = total - len(waiting)
    needed = max(cores_of(resolve(*one)) for one in configurations.values())
    options = {key: launcher.options(*one) for key, one in configurations.items()}
    running: list[_Job] = []
    try:
        while (waiting and not stop) or running:
            if stop:
                waiting = []
                for job in running:
                    job.interrupt()
            while waiting and len(running) < (jobs or launcher.jobs(needed)):
                cell = waiting.pop(0)
                running.append(_Job.begin(study, cell, launcher, options[cell.key[:2]], trust=trust))
            time.sleep(_POLL)
            for job in [job for job in running if job.ended()]:
                running.remove(job)
                if stop and job.result is None:
                    continue
                if job.result is None:
                    study = replace(study, failures=(*study.failures, f"{job.cell}: {job.problem()}"))
                    say(study.failures[-1])
                    continue
                study = study.with_result(job.result)
                done = total - len(study.unfinished())
                left = (time.monotonic() - began) / max(1, done - at_start) * (len(waiting) + len(running))
                remaining = f"; about {max(1, round(left / 60))} min left" if waiting or running else ""
                say(f"[{done}/{total}] {job.cell}: {job.result.score:.1f} after {job.result.seconds:.0f} s{remaining}")
    finally:
        for job in running:
            job.kill()
    return study


def command_of(cell: Cell, folder: Path) -> list[str]:
    """The command that trains a cell's run, without `asyncrl`."""
    options = [*words(cell.method, cell.task), "--seed", str(cell.seed), "--run-dir", str(folder / cell.folder)]
    return ["train", cell.method.algorithm, cell.task.env, *options, "--no-video", "--quiet"]


def rules(contract: Mapping[str, Any]) -> str:
    """The rules of an environment that scores depend on most, in a phrase."""
    parts = [f"frame skip {contract['frame_skip']}"] if contract["frame_skip"] > 1 else []
    if contract["family"] == "atari":
        parts.append(f"sticky actions {contract['sticky']:g}" if contract["sticky"] else "no sticky actions")
        parts.append(f"up to {contract['noop_max']} no-ops at the start")
    cap = contract["episode_cap"]
    parts.append(f"episodes of at most {cap:,} steps" if cap else "no limit of an episode's length")
    return ", ".join([*parts, *(f"{name} {number}" for name, number in contract["versions"].items())])


@dataclass
class _Job:
    """The processes of a run: its training, then its evaluation."""

    cell: Cell
    run: Run
    study: Study
    launcher: Launcher
    log: Path
    trust: bool
    process: Process
    result: Result | None = None
    _evaluating: bool = field(default=False)

    @classmethod
    def begin(cls, study: Study, cell: Cell, launcher: Launcher, options: Sequence[str], *, trust: bool) -> _Job:
        run = Run(study.path / cell.folder)
        log = study.path / cell.log
        log.parent.mkdir(exist_ok=True)
        run.path.parent.mkdir(parents=True, exist_ok=True)

        def training() -> Command:
            allowed = ["--trust"] * (trust or launcher.may_trust(run))
            if (run.path / "config.json").exists():
                return Command(("train", "--resume", str(run.path), "--no-video", "--quiet", *allowed), (run.path,))
            file = cell.method.config
            words = [*command_of(cell, study.path), *options, *(allowed if file else [])]
            return Command(tuple(words), () if file is None else (Path(file),))

        return cls(cell, run, study, launcher, log, trust, launcher.start(training, log, log))

    def ended(self) -> bool:
        """Whether the job is over; a training that has ended is followed by its evaluation."""
        code = self.process.poll()
        if code is None:
            return False
        if code != 0 or self.run.interrupted:
            return True
        if not self._evaluating:
            self._evaluating = True
            self.process = self.launcher.start(self._evaluation, self._scores, self.log)
            return False
        with contextlib.suppress(ValueError, KeyError):
            self.result = self._read(json.loads(self._scores.read_text(encoding="utf-8")))
        self._scores.unlink(missing_ok=True)
        return True

    def _evaluation(self) -> Command:
        """The command that evaluates the last weights."""
        allowed = ["--trust"] * (self.trust or self.launcher.may_trust(self.run))
        options = ["--episodes", str(self.study.suite.episodes), "--seed", str(HELD_OUT), "--json", *allowed]
        mark = self.run.path / "latest"
        newest = self.run.marked("latest")
        inputs = (self.run.path / "config.json", mark, *([] if newest is None else [newest]))
        return Command(("evaluate", str(mark), *options), inputs)

    @property
    def _scores(self) -> Path:
        return self.log.with_suffix(".json")

    def _read(self, facts: dict[str, Any]) -> Result:
        times = [record["time"] for record in self.run.records() if record["kind"] == "train"]
        manifest = json.loads((Path(facts["checkpoint"]) / "manifest.json").read_text(encoding="utf-8"))
        return Result(
            *self.cell.key,
            returns=tuple(facts["returns"]),
            step=facts["step"],
            seconds=float(max(times, default=0.0)),
            rules=rules(facts["contract"]),
            weights_sha256=str(manifest.get("weights_sha256", "")),
            options=tuple(words(self.cell.method, self.cell.task)),
        )

    def problem(self) -> str:
        """Why the job has no result, in a sentence."""
        if signal := self.run.interruption:
            return f"it was stopped by {signal}; the same command continues it ({self.log})"
        if self.process.poll() == 0:
            return f"its evaluation gave no scores ({self.log})"
        return f"{last_line(self.log, self.process.poll())} ({self.log})"

    def interrupt(self) -> None:
        """Ask the process to save and end."""
        self.process.interrupt()

    def kill(self) -> None:
        self.process.kill()
