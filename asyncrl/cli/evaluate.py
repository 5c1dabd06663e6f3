"""asyncrl evaluate RUN"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from asyncrl.api import evaluate, load
from asyncrl.cli.options import mode, parse
from asyncrl.common.serialization import to_json
from asyncrl.envs import EnvOptions
from asyncrl.play.evaluation import cut_off_message
from asyncrl.runs.run import newer_checkpoint
from asyncrl.runs.statistics import summary


@dataclass(frozen=True)
class Arguments:
    run: str
    """A run folder (its best checkpoint, else its latest; RUN/latest), a checkpoint folder, or a pretrained name (asyncrl
    list pretrained)."""
    episodes: int = 30
    """How many episodes."""
    seed: int = 1
    """The same seed gives the same scores."""
    greedy: bool = False
    """Take the most probable action. Default: as the run was evaluated."""
    sample: bool = False
    """Draw actions from the policy. Default: as the run was evaluated."""
    epsilon: float = 0.0
    """Probability that an action is replaced by a random one."""
    eval_envs: int | None = None
    """Environments that are stepped side by side. Default: as while training."""
    max_steps: int | None = None
    """Cut off each episode after so many steps. Default: as while training, where nothing else ends it."""
    env: str | None = None
    """Which of its environments, where it was trained in several. Default: the first."""
    rules: EnvOptions = field(default_factory=EnvOptions)
    """Other rules than it was trained under."""
    force: bool = False
    """Play under another contract than it was trained under."""
    trust: bool = False
    """Run what the folder names also where somebody else has made it: environments of theirs, modules, bots."""
    json: bool = False
    """Print one JSON object and nothing else."""


def run(arguments: Sequence[str]) -> int:
    asked = parse(Arguments, "evaluate", arguments, "Score an agent in its own environment, under its contract.")
    agent = load(asked.run, trust=asked.trust)
    greedy = mode(asked.greedy, asked.sample)
    contract = agent.contract_of(asked.env, asked.rules, force=asked.force)
    how: Any = dict(greedy=greedy, epsilon=asked.epsilon, env=asked.env, rules=asked.rules, force=asked.force)
    how |= dict(envs=asked.eval_envs, max_steps=asked.max_steps)
    result = evaluate(agent, asked.episodes, asked.seed, **how)
    facts = summary(list(result.returns))
    if asked.json:
        agent_of = {"checkpoint": str(agent.checkpoint.path), "step": agent.checkpoint.step}
        told = {"returns": result.returns, "measures": result.measures, "cut_off": result.cut_off, "contract": contract}
        print(json.dumps({**agent_of, **facts, **{name: to_json(value) for name, value in told.items()}}))
        return 0
    if newer := newer_checkpoint(asked.run, agent.checkpoint.path):
        print(newer)
    low, high = facts["iqm_interval"]
    print("\n".join(contract.lines()))
    print(
        f"\n{facts['episodes']} episodes of {agent.checkpoint.path}\n"
        f"mean    {facts['mean']:.2f} ± {facts['std']:.2f} (standard deviation)\n"
        f"median  {facts['median']:.2f}\n"
        f"IQM     {facts['iqm']:.2f}, 95 % interval {low:.2f} … {high:.2f} (bootstrap over episodes)\n"
        f"range   {min(result.returns):g} … {max(result.returns):g}, mean length {fmean(result.lengths):,.0f} steps"
    )
    if result.cut_off:
        print(cut_off_message(result.cut_off, len(result.returns), max(result.lengths)))
    for name, values in result.measures.items():
        print(f"{name}: mean {fmean(values):.2f}, range {min(values):g} … {max(values):g}")
    return 0
