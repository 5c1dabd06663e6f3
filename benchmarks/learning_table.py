"""Make the table and the curves of all stored learning runs, with published figures beside them.

    .venv/bin/python benchmarks/learning_table.py

benchmarks/results/learning.toml lists the runs: method, environment, rules, and the metrics of every seed. The score of a
run is its last evaluation, of the last weights in environments that training never uses. Results go to
benchmarks/results/learning.md and learning.png.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from asyncrl.common.serialization import from_json, read_text
from asyncrl.common.toml_text import parse_toml
from asyncrl.plots.curves import XAxis
from asyncrl.plots.document import Block, Heading, Rows, Text, to_markdown
from asyncrl.plots.learning import draw_returns
from asyncrl.plots.sources import Group, PlottedRun
from asyncrl.plots.style import new_figure
from asyncrl.runs.metrics.metrics_file import read_records
from asyncrl.studies.published import find_reference, table_names
from asyncrl.studies.report import shown
from asyncrl.studies.statistics import aggregate, iqm_over

RESULTS = Path(__file__).parent / "results"
PUBLISHED_AS = {"a3c": ("a3c", "a2c")}
"""Names of a method in published tables, where they differ from ours."""
HEADER = ("method", "rules", "preset", "steps", "IQM over seeds", "score by seed", "episodes", "minutes")
INTRODUCTION = """
The score of a run is the mean return of its last weights in environments that training never uses; the IQM over seeds has
its 95 % bootstrap interval. Seeds with which settings were chosen are marked *. Minutes are the mean wall time of a run on
two cores, often beside other work, so they are upper bounds. Returns are the game's own, whatever was clipped in training.
"""


@dataclass(frozen=True)
class Entry:
    """Runs that differ in their seed only."""

    method: str
    env: str
    files: dict[str, str]
    """Metrics by seed, relative to the folder `results`."""
    preset: str
    rules: str = ""
    """What scores depend on in the environment."""
    chosen_on: tuple[int, ...] = ()
    """Seeds with which the settings were chosen."""

    def evaluations(self) -> dict[str, dict[str, Any]]:
        """The last evaluation by seed."""
        return {seed: read_records(RESULTS / file, ("eval",))[-1] for seed, file in self.files.items()}


def row(entry: Entry) -> list[str]:
    """The entry's row of the table."""
    found = entry.evaluations()
    scores = np.array([one["mean"] for one in found.values()])
    estimate = aggregate([scores], iqm_over)
    interval = f" [{shown(estimate.low)}, {shown(estimate.high)}]" if estimate.has_interval else ""
    seeds = [f"{seed}{'*' * (int(seed) in entry.chosen_on)}: {shown(one['mean'])}" for seed, one in found.items()]
    episodes = {f"{one['episodes']} {'greedy' if one['mode'] == 'greedy' else 'sampled'}" for one in found.values()}
    steps = " … ".join(f"{step:,}" for step in sorted({one["step"] for one in found.values()}))
    minutes = np.mean([one["time"] for one in found.values()]) / 60
    cells = [f"`{entry.method}`", entry.rules, f"`{entry.preset}`", steps, f"{shown(estimate.value)}{interval}"]
    return [*cells, ", ".join(seeds), " / ".join(sorted(episodes)), f"{minutes:.0f}" if minutes >= 1 else f"{minutes:.1f}"]


def published(env: str, methods: Sequence[str]) -> Iterator[str]:
    """Published scores of these methods in the same game, with their table and steps."""
    for name in table_names():
        for score in find_reference(name).of(env):
            if score.method in methods:
                steps = "steps not given" if score.steps is None else f"{score.steps:,} steps"
                yield f"{score.method} {shown(score.estimate.value)} ({name}, {score.env}, {steps})"


def document(entries: Sequence[Entry]) -> Iterator[Block]:
    """A section for each environment."""
    yield Heading("Learning runs", 1)
    yield Text(INTRODUCTION.strip())
    for env, found in by_game(entries).items():
        yield Heading(env)
        yield Rows(HEADER, [row(entry) for entry in found])
        methods = {other for entry in found for other in PUBLISHED_AS.get(entry.method, (entry.method,))}
        beside = [text for one in dict.fromkeys(entry.env for entry in found) for text in published(one, sorted(methods))]
        yield Text(
            f"Published: {'; '.join(dict.fromkeys(beside))}."
            if beside
            else "The published tables that come with asyncrl have no score of these methods."
        )
    yield Heading("Sources of the published figures")
    for name in table_names():
        reference = find_reference(name)
        yield Text(f"{name}: {reference.title}. {reference.source}. {reference.rules}")


def by_game(entries: Sequence[Entry]) -> Mapping[str, list[Entry]]:
    """The entries by environment, in the order of the file."""
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        found.setdefault(entry.env, []).append(entry)
    return found


def draw(entries: Sequence[Entry], path: Path) -> None:
    """A panel for each environment: training returns over steps, and evaluations."""
    with tempfile.TemporaryDirectory() as folder:
        panels = {env: [group(entry, Path(folder)) for entry in found] for env, found in by_game(entries).items()}
        figure = new_figure(11, 2.7 * -(-len(panels) // 3))
        draw_returns(figure, panels, XAxis.STEPS)
        figure.savefig(path, dpi=110)


def group(entry: Entry, folder: Path) -> Group:
    """The runs of an entry as the plots read them, in folders whose metrics are links to the stored files."""
    runs = []
    for file in entry.files.values():
        run = folder / file.replace("/", "-")
        run.mkdir()
        (run / "metrics.jsonl").symlink_to((RESULTS / file).resolve())
        runs.append(PlottedRun(run, file, {"env": entry.env, "algorithm": entry.method}))
    return Group(entry.method, entry.env, runs)


def main() -> None:
    listed = RESULTS / "learning.toml"
    facts = parse_toml(listed, read_text(listed, kind="TOML"))
    entries = [from_json(Entry, one, f"{listed}: runs") for one in facts["runs"]]
    (RESULTS / "learning.md").write_text(to_markdown(list(document(entries))), encoding="utf-8")
    draw(entries, RESULTS / "learning.png")


if __name__ == "__main__":
    main()
