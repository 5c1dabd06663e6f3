"""asyncrl record RUN --out DATASET · asyncrl record ENV --bot FILE.py:NAME --out DATASET"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from asyncrl.agents.evaluation import cut_off_message
from asyncrl.api import record
from asyncrl.cli.options import greedy_or_sample, parse
from asyncrl.common.counting import counted
from asyncrl.errors import UsageError

BASIC = {
    "Options": ("out", "bot", "episodes", "seed", "greedy", "sample", "epsilon", "max_steps", "trust"),
}
"""Options of the short help, by section."""


@dataclass(frozen=True)
class Arguments:
    player: str
    """Run folder, checkpoint folder or pretrained agent; with --bot an environment."""
    out: str = ""
    """Name of the new Minari dataset, for example cartpole/expert-v0."""
    bot: str | None = None
    """Function that makes a bot, as FILE.py:NAME or MODULE:NAME."""
    episodes: int = 20
    """Number of episodes."""
    seed: int = 1
    """Seed of the environments."""
    greedy: bool = False
    """Take the most probable action. Without --greedy and --sample: as the run was evaluated."""
    sample: bool = False
    """Sample actions from the policy."""
    epsilon: float = 0.0
    """Probability of a random action instead of the policy's."""
    max_steps: int | None = None
    """Steps after which an episode is cut off. Default: as in the run's evaluations."""
    trust: bool = False
    """Run code that the folder names even if someone else made the folder."""


def run(arguments: Sequence[str]) -> int:
    asked = parse(Arguments, "record", arguments, "Record the episodes of an agent or a bot as a Minari dataset.", BASIC)
    if not asked.out:
        raise UsageError("the name of the dataset is missing: --out NAMESPACE/NAME-v0")
    recorded = record(
        asked.player,
        asked.out,
        asked.episodes,
        asked.seed,
        bot=asked.bot,
        greedy=greedy_or_sample(asked.greedy, asked.sample),
        epsilon=asked.epsilon,
        max_steps=asked.max_steps,
        trust=asked.trust,
    )
    if recorded.cut_off:
        print(cut_off_message(recorded.cut_off, asked.episodes, max(recorded.lengths)))
    print(f"{asked.out}: {counted(asked.episodes, 'episode')}, mean return {recorded.mean:.2f}")
    return 0
