"""Results to compare with: published tables, which come with their sources, and other studies."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from asyncrl.common.serialization import from_json, read_text
from asyncrl.common.toml_text import parse_toml
from asyncrl.errors import UsageError, suggestions
from asyncrl.studies.statistics import Estimate, mean_with_interval, student_quantile
from asyncrl.studies.study import Study, is_study

__all__ = ["Published", "Reference", "find_reference", "game", "table_names"]

_FOLDER = Path(__file__).parent / "published_tables"


class Spread(Enum):
    """What a published standard deviation is over."""

    RUNS = "runs"
    EPISODES = "episodes"
    """of one trained agent; it says nothing about another run"""
    NONE = "none"


@dataclass(frozen=True)
class Published:
    """A published score."""

    algorithm: str
    env: str
    mean: float
    std: float | None = None
    """Divided by the number of runs, as NumPy's."""
    steps: int | None = None
    episodes: int | None = None


@dataclass(frozen=True)
class Table:
    """A table of published scores, as in its file."""

    title: str
    source: str
    runs: int
    spread: Spread
    rules: str
    scores: tuple[Published, ...]
    transcription: str = ""
    """Where the figures were read, if not at the source."""


@dataclass(frozen=True)
class Score:
    """A score to compare with."""

    method: str
    env: str
    estimate: Estimate
    runs: int
    steps: int | None

    @property
    def game(self) -> str:
        return game(self.env)


@dataclass(frozen=True)
class Reference:
    """Scores of others, and how they were made."""

    title: str
    source: str
    rules: str
    scores: tuple[Score, ...]

    def of(self, env: str) -> list[Score]:
        """The scores in an environment, the best first."""
        found = [score for score in self.scores if score.game == game(env)]
        return sorted(found, key=lambda score: score.estimate.value, reverse=True)


def table_names() -> list[str]:
    """The published tables that come with the package."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def find_reference(name: Path | str) -> Reference:
    """The published table of this name, in this file, or the study in this folder. Raises UsageError if there is none."""
    if is_study(Path(name)):
        return _of_study(Study.load(Path(name)))
    path = _FOLDER / f"{name}.toml" if str(name) in table_names() else Path(name)
    if not path.is_file():
        raise UsageError(
            f"there is no study and no table {str(name)!r}{suggestions(str(name), table_names())} (tables: "
            f"{', '.join(table_names())}; or the folder of a study)"
        )
    table = from_json(Table, parse_toml(path, read_text(path, kind="TOML")), str(path))
    source = f"{table.source} (read from {table.transcription})" if table.transcription else table.source
    scores = tuple(_score(entry, table) for entry in table.scores)
    return Reference(table.title, source, " ".join(table.rules.split()), scores)


def _score(entry: Published, table: Table) -> Score:
    estimate = Estimate(entry.mean)
    if table.spread is Spread.RUNS and entry.std is not None and table.runs > 1:
        half = student_quantile(0.975, table.runs - 1) * entry.std / math.sqrt(table.runs - 1)
        estimate = Estimate(entry.mean, entry.mean - half, entry.mean + half)
    return Score(entry.algorithm, entry.env, estimate, table.runs, entry.steps)


def _of_study(study: Study) -> Reference:
    scores = []
    for task in study.suite.tasks:
        for method in task.methods:
            results = study.results_of(task, method)
            if results:
                values = [result.score for result in results]
                steps = max(result.step for result in results)
                scores.append(Score(method.name, task.env, mean_with_interval(values), len(values), steps))
    if not scores:
        raise UsageError(f"{study.path} has no results yet")
    rules = f"{study.suite.episodes} evaluation episodes of the last weights of each run."
    return Reference(study.suite.title or study.suite.name, str(study.path), rules, tuple(scores))


def game(env: str) -> str:
    """The environment without the version of its rules: "ALE/Pong-v5" and "PongNoFrameskip-v4" are both "pong"."""
    name = re.sub(r"-v\d+$", "", env.rpartition("/")[2])
    return re.sub(r"(NoFrameskip|Deterministic)$", "", name).casefold()
