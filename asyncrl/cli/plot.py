"""asyncrl plot RUN…"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from asyncrl.cli.options import parse, relative
from asyncrl.plots.curves import XAxis
from asyncrl.plots.figures import What, compose, pictures
from asyncrl.plots.output import check_output, write
from asyncrl.plots.sources import find_runs, group_runs

_ABOUT = (
    "Draw runs. Those that differ in nothing but the seed are shown as their mean with its 95 % interval; "
    "each environment gets its own panel."
)
BASIC = {"Options": ("what", "x", "out", "trust")}
"""Options of the short help, by section."""


@dataclass(frozen=True)
class Arguments:
    runs: tuple[str, ...]
    """Run folders, folders that contain runs (those of a study, for example), or pretrained agents."""
    what: tuple[What, ...] = (What.RETURNS,)
    """What to show."""
    x: XAxis = XAxis.STEPS
    """What learning curves are drawn over."""
    out: Path = Path("plot.png")
    """File to write: .png, .svg, .pdf, or .html, a page in one file."""
    trust: bool = False
    """Run code that the run folders name even if someone else made them (filters)."""


def run(arguments: Sequence[str]) -> int:
    asked = parse(Arguments, "plot", arguments, _ABOUT, BASIC)
    path = check_output(asked.out)
    runs = find_runs(asked.runs)
    found = pictures(runs, asked.what, asked.x, trust=asked.trust)
    write(found, compose(found), path)
    for group in group_runs([one for one in runs if one.has_data]):
        print(f"{group.env}: {group}")
    if young := [one.name for one in runs if not one.has_data]:
        print(f"left out, without data yet: {', '.join(young)}")
    print(f"plot: {relative(path)}")
    return 0
