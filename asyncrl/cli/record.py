"""asyncrl record RUN --out DATASET · asyncrl record ENV --bot FILE.py:NAME --out DATASET"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from asyncrl.api import record
from asyncrl.cli.options import mode, parse
from asyncrl.errors import UsageError


@dataclass(frozen=True)
class Arguments:
    player: str
    """Who plays: a run folder, a checkpoint folder or a pretrained name; with --bot, the environment's id."""
    out: str = ""
    """Name of the new Minari dataset, as cartpole/expert-v0."""
    bot: str | None = None
    """Let this bot play: FILE.py:NAME, or MODULE:NAME."""
    episodes: int = 20
    """How many."""
    seed: int = 1
    """Of the environments."""
    greedy: bool = False
    """Take the most probable action. Default: as the run was evaluated."""
    sample: bool = False
    """Draw actions from the policy. Default: as the run was evaluated."""
    epsilon: float = 0.0
    """Probability that an action is replaced by a random one."""
    max_steps: int | None = None
    """Cut off each episode after so many steps. Default: where nothing else ends it, as evaluations do."""
    trust: bool = False
    """Run what the folder names also where somebody else has made it: environments of theirs, modules, bots."""


def run(arguments: Sequence[str]) -> int:
    asked = parse(Arguments, "record", arguments, "Record episodes as a Minari dataset.")
    if not asked.out:
        raise UsageError("how shall the dataset be called? --out NAMESPACE/NAME-v0")
    scores = record(
        asked.player,
        asked.out,
        asked.episodes,
        asked.seed,
        bot=asked.bot,
        greedy=mode(asked.greedy, asked.sample),
        epsilon=asked.epsilon,
        max_steps=asked.max_steps,
        say=print,
        trust=asked.trust,
    )
    print(f"{asked.out}: {len(scores)} episodes, mean return {statistics.fmean(scores):.2f}")
    return 0
