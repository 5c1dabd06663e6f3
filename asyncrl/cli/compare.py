"""asyncrl compare RUN_A RUN_B"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asyncrl.cli.help import page_width
from asyncrl.cli.options import parse, relative
from asyncrl.common.counting import counted
from asyncrl.common.serialization import json_text, to_json
from asyncrl.studies.comparison import Comparison, compare
from asyncrl.studies.report import interval, shown

_ABOUT = (
    "Compare two runs, or two folders of runs that differ in their seeds: settings, scores with intervals, the first "
    "metric that differs if they were meant to be equal, and a video of both agents side by side."
)
BASIC = {"Options": ("episodes", "seed", "video", "json", "trust")}
"""Options of the short help, by section."""
_LETTERS = ("A", "B")
_LONGEST = 40
"""Characters of a setting's value."""


@dataclass(frozen=True)
class Arguments:
    run_a: str
    """Run folder, checkpoint folder, pretrained agent, or a folder of runs with different seeds."""
    run_b: str
    """Another, in the same environment."""
    episodes: int = 100
    """Evaluation episodes of each run."""
    seed: int = 1_000_003
    """Seed of the evaluation environments, which are the same for both."""
    video: Path | None = None
    """Record both agents side by side, in environments with the same seed: an .mp4 or .gif file."""
    json: bool = False
    """Print one JSON object."""
    trust: bool = False
    """Run code that the folders name even if someone else made them."""


def run(arguments: Sequence[str]) -> int:
    asked = parse(Arguments, "compare", arguments, _ABOUT, BASIC)
    found = compare(
        asked.run_a, asked.run_b, episodes=asked.episodes, seed=asked.seed, video=asked.video, trust=asked.trust
    )
    print(json_text(_facts(found))) if asked.json else print(*_lines(found), sep="\n")
    return 0


def _facts(found: Comparison) -> dict[str, Any]:
    """The object that --json prints."""
    return {
        **to_json(found),
        "scores": [score._asdict() for score in found.scores],
        "difference": found.difference._asdict(),
        "verdict": found.verdict,
        "video": None if found.video is None else str(found.video),
    }


def _lines(found: Comparison) -> Iterator[str]:
    for letter, name, count in zip(_LETTERS, found.names, found.counts, strict=True):
        yield f"{letter}  {name}{f' ({count:,} runs)' if count > 1 else ''}"
    yield ""
    yield from _settings(found)
    yield ""
    what = "means over runs of the mean return" if found.over_runs else "mean return"
    yield f"{what} over {counted(found.episodes, 'episode')} in {found.env}, with 95 % intervals"
    for name, score in zip((*_LETTERS, "A − B"), (*found.scores, found.difference), strict=True):
        yield f"  {name:<7}{shown(score.value):>10}   {interval(score)}"
    yield found.verdict
    if not found.over_runs:
        yield "These are two agents: the interval says nothing about other seeds (compare folders of runs for that)."
    if found.meant_to_be_equal:
        yield ""
        yield _divergence(found)
    if found.video is not None:
        yield f"video: {relative(found.video)}"


def _settings(found: Comparison) -> Iterator[str]:
    if not found.settings:
        yield "All settings are equal."
        return
    both = {name: values for name, values in found.settings.items() if None not in values}
    rows = [("settings", *_LETTERS), *((name, *map(_short, values)) for name, values in both.items())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows if both else ():
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    for side, letter in enumerate(_LETTERS):
        alone = [f"{name} {_short(values[side])}" for name, values in found.settings.items() if values[1 - side] is None]
        if alone:
            yield from textwrap.wrap(f"{letter} alone: {', '.join(alone)}", page_width(), subsequent_indent="  ")


def _short(value: Any) -> str:
    text = json_text(value, ensure_ascii=False).strip('"')
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _divergence(found: Comparison) -> str:
    if found.divergence is None and not found.equal_records:
        return "All settings that affect the weights are equal, but one of the runs has no metrics to compare."
    if found.divergence is None:
        if found.equal_records == 1:
            return "Settings and seed are equal, and so is the 1 record."
        return f"Settings and seed are equal, and so are all {found.equal_records:,} records."
    first = found.divergence
    one, two = first.values
    return (
        f"The runs were meant to be equal, but {first.metric} differs at step {first.step:,} (update {first.update:,}, "
        f"{first.kind}): {_short(one)} and {_short(two)}, after {found.equal_records:,} equal records."
        + ("" if found.repeatable else " Only runs with --schedule lockstep can be repeated.")
    )
