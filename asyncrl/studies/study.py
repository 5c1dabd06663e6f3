"""A study: a suite, the folder of its runs, and their results.

::

    studies/classic/
      study.json                        the suite
      results.json                      returns of every finished run in evaluation environments
      report.md  report.html
      runs/CartPole-v1/ppo/seed-1/      run folders
      logs/CartPole-v1-ppo-seed-1.txt   what the commands of a run printed
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from asyncrl.common import signing
from asyncrl.common.file_lock import AlreadyLocked, file_lock
from asyncrl.common.serialization import from_json, read_json, to_json, write_atomically
from asyncrl.errors import UsageError
from asyncrl.studies.suite import Method, Suite, Task, words
from asyncrl.version import __version__

__all__ = ["Cell", "Result", "Study", "is_study"]


@dataclass(frozen=True)
class Cell:
    """One run of a study: a method in an environment, with a seed."""

    task: Task
    method: Method
    seed: int

    @property
    def key(self) -> tuple[str, str, int]:
        return self.task.env, self.method.name, self.seed

    @property
    def folder(self) -> Path:
        """Its run folder, relative to the study's folder."""
        return Path("runs", _slug(self.task.env), _slug(self.method.name), f"seed-{self.seed}")

    @property
    def log(self) -> Path:
        """The file of what its commands print, relative to the study's folder."""
        return Path("logs", f"{'-'.join(self.folder.parts[1:])}.txt")

    def __str__(self) -> str:
        return f"{self.method.name} on {self.task.env}, seed {self.seed}"


@dataclass(frozen=True)
class Result:
    """What a run of a study ended with."""

    env: str
    method: str
    seed: int
    returns: tuple[float, ...]
    """Returns of the last weights in evaluation environments."""
    step: int
    """Environment steps of training."""
    seconds: float
    """Time of training."""
    rules: str = ""
    """What scores depend on in the environment, such as sticky actions."""
    weights_sha256: str = ""
    options: tuple[str, ...] | None = None
    """Command-line options of the run's settings; None for results from before they were kept."""

    @property
    def key(self) -> tuple[str, str, int]:
        return self.env, self.method, self.seed

    @property
    def score(self) -> float:
        """The mean return."""
        return float(np.mean(self.returns))


@dataclass(frozen=True)
class Study:
    """A suite and the results so far."""

    path: Path
    suite: Suite
    results: tuple[Result, ...] = ()
    failures: tuple[str, ...] = ()
    """Sentences about the runs that failed since the study was started or continued."""

    @classmethod
    def load(cls, path: Path) -> Study:
        """The study in a folder. Raises UsageError if there is none, CheckpointError if its files are damaged."""
        if not is_study(path):
            raise UsageError(f"{path} is not the folder of a study: it has no study.json")
        facts = read_json(path / "study.json")
        suite = from_json(Suite, facts.get("suite") if isinstance(facts, dict) else None, f"{path / 'study.json'}: suite")
        found = read_json(path / "results.json") if (path / "results.json").exists() else {"results": []}
        entries = found.get("results", []) if isinstance(found, dict) else []
        results = tuple(from_json(Result, entry, f"{path / 'results.json'}: results") for entry in entries)
        return cls(path, suite, results)

    @property
    def is_signed_by_user(self) -> bool:
        """Whether this user made the study on this machine."""
        facts = read_json(self.path / "study.json")
        return signing.is_signed("study", _signed(facts.get("suite")), facts.get("signature"))

    def save_suite(self) -> None:
        """Write study.json, and the folder if it is missing."""
        self.path.mkdir(parents=True, exist_ok=True)
        suite = to_json(self.suite)
        facts = {"asyncrl": __version__, "suite": suite, "signature": signing.sign("study", _signed(suite))}
        write_atomically(self.path / "study.json", json.dumps(facts, indent=1))

    def with_result(self, result: Result) -> Study:
        """A copy with one result more, which is written to results.json."""
        study = replace(self, results=(*self.results, result))
        lines = ",\n".join(json.dumps(to_json(one)) for one in study.results)
        write_atomically(study.path / "results.json", f'{{"results": [\n{lines}\n]}}\n')
        return study

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the study's lock during the block. Raises UsageError if another process holds it."""
        try:
            with file_lock(self.path / ".lock"):
                yield
        except AlreadyLocked as lock:
            raise UsageError(f"{self.path} is being worked on by {lock}; wait for it or stop it") from None

    @property
    def seeds(self) -> range:
        """The seeds of the suite; there may be results of others."""
        return range(self.suite.first_seed, self.suite.first_seed + self.suite.seeds)

    def cells(self) -> list[Cell]:
        """All runs, seed by seed, so that an unfinished study has results of every method."""
        return [Cell(task, method, seed) for seed in self.seeds for task in self.suite.tasks for method in task.methods]

    def check_names(self) -> None:
        """Raise UsageError for runs that would have the same files, because the names of their methods are too similar."""
        found: dict[str, Cell] = {}
        for cell in self.cells():
            other = found.setdefault(str(cell.log).casefold(), cell)
            if other is not cell:
                raise UsageError(f"{other} and {cell} would have the same files: rename one of the methods")

    def unfinished(self) -> list[Cell]:
        """The runs without a result."""
        finished = {result.key for result in self.results}
        return [cell for cell in self.cells() if cell.key not in finished]

    def results_of(self, task: Task, method: Method) -> list[Result]:
        """The results of a method in an environment, by seed."""
        found = [one for one in self.results if (one.env, one.method) == (task.env, method.name) and one.seed in self.seeds]
        return sorted(found, key=lambda result: result.seed)

    def scores(self, task: Task, method: Method) -> np.ndarray:
        """[runs] mean returns of a method in an environment."""
        return np.array([result.score for result in self.results_of(task, method)])

    def of_group(self, group: str) -> Study:
        """The part of this study whose environments are in a group."""
        tasks = tuple(task for task in self.suite.tasks if task.group == group)
        return replace(self, suite=replace(self.suite, tasks=tasks))

    def continued(self, suite: Suite) -> Study:
        """This study with `suite`, which may have more seeds, methods and environments.

        Raises UsageError if runs of this study would have been other runs.
        """
        before = {(one.env, one.method): list(one.options) for one in self.results if one.options is not None}
        before |= {(task.env, method.name): words(method, task) for task in self.suite.tasks for method in task.methods}
        for task in suite.tasks:
            for method in task.methods:
                old, new = before.get((task.env, method.name)), words(method, task)
                if old not in (None, new):
                    raise UsageError(
                        f"{self.path} has runs of {method.name} on {task.env} with other settings ({_shown(old)}, now "
                        f"{_shown(new)}); choose another --folder"
                    )
        if self.results and suite.episodes != self.suite.episodes:
            raise UsageError(
                f"{self.path} has results over {self.suite.episodes} episodes, not {suite.episodes}; choose another "
                "--folder"
            )
        return replace(self, suite=suite)


def is_study(path: Path) -> bool:
    """Whether a folder holds a study."""
    return (path / "study.json").is_file()


def _slug(name: str) -> str:
    return re.sub(r"[^\w.+-]+", "-", name).strip("-.") or "_"


def _signed(suite: Mapping[str, Any] | None) -> str:
    return json.dumps(suite, sort_keys=True)


def _shown(options: Sequence[str] | None) -> str:
    return " ".join(options or ()) or "none"
