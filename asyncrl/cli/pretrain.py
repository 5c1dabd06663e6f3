"""asyncrl pretrain ALGO ENV --data DATASET"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tyro

from asyncrl.api import configure, pretrain, tailor
from asyncrl.cli.options import given, parse, shown
from asyncrl.cli.words import algorithm_and_env
from asyncrl.errors import UsageError
from asyncrl.play.evaluation import cut_off_message
from asyncrl.play.imitation import CloningOptions, Epoch
from asyncrl.runs.config import RunConfig
from asyncrl.runs.settings import leaves


@dataclass(frozen=True)
class Imitation:
    data: str = ""
    """The Minari dataset to imitate."""
    cloning: CloningOptions = field(default_factory=CloningOptions)
    run_dir: Path | None = None
    """The run's folder. Default: runs/ALGO-ENV-TIME."""
    quiet: bool = False
    """Say nothing until the end."""


@dataclass(frozen=True)
class Arguments:
    run: RunConfig
    imitation: Imitation


def run(arguments: Sequence[str]) -> int:
    words = [a for a in arguments[:2] if not a.startswith("-")]
    if len(words) < 2 and not {"-h", "--help"} & set(arguments):
        raise UsageError("which algorithm and environment? asyncrl pretrain ALGO ENV --data DATASET")
    algorithm, env = algorithm_and_env(words, "pretrain")
    base = configure(env or "", algorithm)
    positional: Any = tyro.MISSING
    asked = parse(
        Arguments,
        "pretrain ALGO",
        arguments[1:] if words else arguments,
        "Learn to do what was recorded; `train --init-from RUN` goes on from there.",
        Arguments(dataclasses.replace(base, env=positional), Imitation()),
    )
    imitation, found = asked.imitation, leaves(asked.run)
    settings = {name: found[name] for name in given(arguments, found)}
    config = tailor(asked.run.env, base.algorithm.name, **settings)
    if not imitation.data:
        raise UsageError("what shall be imitated? --data DATASET (asyncrl record writes one)")

    def say(epoch: Epoch) -> None:
        if not imitation.quiet:
            losses = f"loss {epoch.loss:.4f}   on other episodes {epoch.validation_loss:.4f}"
            agreement = "" if epoch.agreement is None else f"   agreement {epoch.agreement:.1%}"
            print(f"epoch {epoch.number:>4}   {losses}{agreement}", flush=True)

    made, best, score = pretrain(config, imitation.data, imitation.cloning, imitation.run_dir, say, asked=settings)
    fit = f"loss {best.validation_loss:.4f}" if best.agreement is None else f"agreement {best.agreement:.1%}"
    print(f"best epoch {best.number}: {fit} on episodes it did not learn from")
    if score is not None:
        print(f"mean return {score.mean:.2f} over {len(score.returns)} episodes")
        if score.cut_off:
            print(cut_off_message(score.cut_off, len(score.returns), max(score.lengths), "--eval-episode-steps"))
    print(f"run folder: {shown(made.path)}")
    if made.interrupted:
        print("it was stopped early: more epochs may fit better")
    print(f"go on with: asyncrl train {asked.run.algorithm.name} {asked.run.env} --init-from {shown(made.path)}")
    return 130 if made.interrupted else 0
