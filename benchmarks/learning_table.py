"""Make the table and the curves of all stored learning runs, with published figures beside them.

    .venv/bin/python benchmarks/learning_table.py

benchmarks/results/learning.toml lists the runs: method, environment, rules, and the metrics of every seed. The score of a
run is its last evaluation, of the last weights in environments that training never uses. Curves of published runs come from
published_curves.py. Results go to benchmarks/results/learning.md and learning.png.
"""

from __future__ import annotations

import json
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
MARKS = (100_000, 250_000, 500_000, 750_000, 1_000_000, 1_500_000, 2_500_000)
"""Steps at which training returns are compared."""
HEADER = ("method", "rules", "preset", "steps", "IQM over seeds", "score by seed", "episodes", "minutes")
INTRODUCTION = """
The score of a run is the mean return of its last weights in environments that training never uses; the IQM over seeds has
its 95 % bootstrap interval. Seeds with which settings were chosen are marked *. Minutes are the mean wall time of a run on
two cores, often beside other work, so they are upper bounds. Returns are the game's own, whatever was clipped in training.

Where a published run has a learning curve, training returns at equal steps are compared, too: means of the last 100
episodes, and over our seeds. Published runs have one seed each (RL Baselines3 Zoo, see results/published).
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

    def train_records(self) -> list[list[dict[str, Any]]]:
        """The training records of each seed."""
        return [read_records(RESULTS / file, ("train",)) for file in self.files.values()]

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


def published_curves(entry: Entry) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Published curves of the same method and environment, of any version, with what to call them."""
    for method in PUBLISHED_AS.get(entry.method, (entry.method,)):
        for path in sorted((RESULTS / "published").glob(f"{method}-{entry.env.rpartition('-v')[0]}-v*.jsonl")):
            yield f"{method}, RL Zoo", read_records(path, ("train",))


def at_equal_steps(entries: Sequence[Entry]) -> Iterator[Block]:
    """Training returns of an environment's runs and of published ones, after as many steps."""
    curves: dict[str, list[list[dict[str, Any]]]] = {}
    for entry in entries:
        for name, records in published_curves(entry):
            curves |= {f"`{entry.method}`": entry.train_records(), name: [records]}
    ours = [run for entry in entries for run in entry.train_records()]
    marks = [mark for mark in MARKS if any(reaches(run, mark) for run in ours)]
    if curves:
        header = ("training return at", *(f"{mark:,}" for mark in marks))
        yield Rows(header, [[name, *(return_at(mark, runs) for mark in marks)] for name, runs in curves.items()])


def return_at(mark: int, runs: Sequence[list[dict[str, Any]]]) -> str:
    """The mean over the runs that are long enough."""
    found = [[one["mean_return"] for one in run if one["step"] <= mark][-1] for run in runs if reaches(run, mark)]
    values = [value for value in found if value is not None]
    return shown(float(np.mean(values))) if values else ""


def reaches(run: list[dict[str, Any]], mark: int) -> bool:
    """Whether a run ends at the mark or later, or a little before it."""
    return bool(run[-1]["step"] >= 0.98 * mark)


def document(entries: Sequence[Entry]) -> Iterator[Block]:
    """A section for each environment."""
    yield Heading("Learning runs", 1)
    yield Text(INTRODUCTION.strip())
    for env, found in by_game(entries).items():
        yield Heading(env)
        yield Rows(HEADER, [row(entry) for entry in found])
        yield from at_equal_steps(found)
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
        panels = {}
        for env, found in by_game(entries).items():
            longest = max(run[-1]["step"] for entry in found for run in entry.train_records())
            beside = [published_group(entry, longest, Path(folder)) for entry in found]
            panels[env] = [*(group(entry, Path(folder)) for entry in found), *filter(None, beside)]
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


def published_group(entry: Entry, steps: int, folder: Path) -> Group | None:
    """The published curve beside an entry, up to these steps, as the plots read it."""
    for name, records in published_curves(entry):
        run = folder / f"{name}-{entry.env}"
        run.mkdir()
        lines = [json.dumps(record) + "\n" for record in records if record["step"] <= steps]
        (run / "metrics.jsonl").write_text("".join(lines))
        return Group(name, entry.env, [PlottedRun(run, name, {"env": entry.env, "algorithm": name})])
    return None


def main() -> None:
    listed = RESULTS / "learning.toml"
    facts = parse_toml(listed, read_text(listed, kind="TOML"))
    entries = [from_json(Entry, one, f"{listed}: runs") for one in facts["runs"]]
    (RESULTS / "learning.md").write_text(to_markdown(list(document(entries))), encoding="utf-8")
    draw(entries, RESULTS / "learning.png")


if __name__ == "__main__":
    main()
