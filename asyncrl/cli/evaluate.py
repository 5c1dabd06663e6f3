"""asyncrl evaluate RUN"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from asyncrl.agents.evaluation import Evaluation, cut_off_message
from asyncrl.api import evaluate, load
from asyncrl.cli.options import greedy_or_sample, parse
from asyncrl.common.counting import counted
from asyncrl.common.serialization import json_text, to_json
from asyncrl.common.statistics import summarize
from asyncrl.envs import Contract, EnvOptions, contract_lines
from asyncrl.envs.family_options import combined_options
from asyncrl.runs.checkpoints.checkpoint import Checkpoint
from asyncrl.runs.lookup import newer_checkpoint

_ABOUT = "Evaluate an agent in its environment: the returns of many episodes."
BASIC = {
    "Options": ("episodes", "seed", "greedy", "sample", "epsilon", "max_steps", "env", "eval_envs", "json", "trust"),
}
"""Options of the short help, by section."""


@dataclass(frozen=True)
class Arguments:
    run: str
    """Run folder (its best checkpoint, or RUN/latest), checkpoint folder, pretrained agent (asyncrl list pretrained), or
    hf:USER/NAME on the Hugging Face Hub, or the URL of a run in a storage."""
    episodes: int = 30
    """Number of episodes."""
    seed: int = 1
    """Seed of the environments and the policy; the same seed gives the same returns."""
    greedy: bool = False
    """Take the most probable action. Without --greedy and --sample: as the run was evaluated."""
    sample: bool = False
    """Sample actions from the policy."""
    epsilon: float = 0.0
    """Probability of a random action instead of the policy's."""
    eval_envs: int | None = None
    """Environments stepped in parallel. Default: as in training."""
    max_steps: int | None = None
    """Steps after which an episode is cut off. Default: as in the run's evaluations."""
    env: str | None = None
    """One of the environments that the agent was trained in, or with --force another with the same spaces. Default: the
    first."""
    env_options: EnvOptions = field(default_factory=combined_options())
    """Settings of the environment that differ from the run's."""
    force: bool = False
    """Accept an environment or settings that differ from those in training."""
    trust: bool = False
    """Run code that the folder names even if someone else made the folder."""
    json: bool = False
    """Print one JSON object."""


def run(arguments: Sequence[str]) -> int:
    asked = parse(Arguments, "evaluate", arguments, _ABOUT, BASIC)
    agent = load(asked.run, trust=asked.trust)
    contract = agent.contract_of(asked.env, asked.env_options, force=asked.force)
    result = evaluate(
        agent,
        asked.episodes,
        asked.seed,
        greedy=greedy_or_sample(asked.greedy, asked.sample),
        epsilon=asked.epsilon,
        env=asked.env,
        env_options=asked.env_options,
        force=asked.force,
        envs=asked.eval_envs,
        max_steps=asked.max_steps,
    )
    if asked.json:
        print(json_text(_facts(agent.checkpoint, contract, result)))
        return 0
    if newer := newer_checkpoint(asked.run, agent.checkpoint.path):
        print(newer)
    print(*contract_lines(contract), "", *_lines(agent.checkpoint, result), sep="\n")
    return 0


def _facts(checkpoint: Checkpoint, contract: Contract, result: Evaluation) -> dict[str, Any]:
    """The object that --json prints."""
    return {
        "checkpoint": str(checkpoint.path),
        "step": checkpoint.step,
        **summarize(list(result.returns)),
        "returns": to_json(result.returns),
        "measures": to_json(result.measures),
        "cut_off": result.cut_off,
        "contract": to_json(contract),
    }


def _lines(checkpoint: Checkpoint, result: Evaluation) -> Iterator[str]:
    facts = summarize(list(result.returns))
    low, high = facts["iqm_interval"]
    yield f"{counted(facts['episodes'], 'episode')} of {checkpoint.path}"
    yield f"mean    {facts['mean']:.2f} ± {facts['std']:.2f} (standard deviation)"
    yield f"median  {facts['median']:.2f}"
    yield f"IQM     {facts['iqm']:.2f}, 95 % interval {low:.2f} … {high:.2f} (bootstrap over episodes)"
    yield f"range   {min(result.returns):g} … {max(result.returns):g}, mean length {fmean(result.lengths):,.0f} steps"
    if result.cut_off:
        yield cut_off_message(result.cut_off, len(result.returns), max(result.lengths))
    for name, values in result.measures.items():
        yield f"{name}: mean {fmean(values):.2f}, range {min(values):g} … {max(values):g}"
