"""asyncrl bench ENV"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from asyncrl.api import tailor
from asyncrl.bench import Report, bench, tune
from asyncrl.cli.bench_table import tuning_text
from asyncrl.cli.help import page_width
from asyncrl.cli.options import parse
from asyncrl.cli.words import env_alone
from asyncrl.common.serialization import json_text
from asyncrl.common.validation import within
from asyncrl.envs import describe
from asyncrl.runs.config.option_checks import reject_ineffective
from asyncrl.runs.config.run_config import EngineKind
from asyncrl.runs.provenance import machine

_ABOUT = (
    "Measure speed on this machine: environment steps, acting, learning, and training end to end. With --tune, find "
    "settings that train faster here."
)
_SETTINGS = ("network", "actors", "envs_per_actor", "t_max", "engine", "lag", "learner_threads", "env_threads")
BASIC = {"Options": ("algo", "preset", *_SETTINGS), "Measurement": ("tune", "seconds", "json")}
"""Options of the short help, by section."""
_SECONDS = {False: 10.0, True: 60.0}
"""Defaults of --seconds, without and with --tune."""


@dataclass(frozen=True)
class Arguments:
    env: str
    """Environment (asyncrl list envs)."""
    algo: str = "a3c"
    """Algorithm whose network and update are measured."""
    preset: str | None = None
    """Preset of the settings. Default: the one tuned for the algorithm and the environment."""
    network: str | None = None
    """Network, or your own as module:Name. Default: the preset's."""
    actors: int | None = None
    """Number of actors. Default: the preset's."""
    envs_per_actor: int | None = None
    """Environments per actor. Default: the preset's."""
    t_max: int | None = None
    """Steps per rollout and environment. Default: the preset's."""
    engine: EngineKind | None = None
    """Engine. Default: the preset's."""
    lag: int | None = None
    """Policy lag in updates. Default: the preset's."""
    learner_threads: int | None = None
    """Torch threads of the learner. Default: as in training."""
    env_threads: int | None = None
    """Threads that step one actor's environments. Default: the preset's."""
    tune: bool = False
    """Find settings that train faster here, with the same batch. Settings that are given stay as they are."""
    seconds: float | None = None
    """Seconds of each of the four measurements, or of all with --tune. Default: 10, and 60 with --tune."""
    json: bool = False
    """Print one JSON object."""


def run(arguments: Sequence[str]) -> int:
    env_alone(arguments, "bench")
    asked = parse(Arguments, "bench", arguments, _ABOUT, BASIC)
    within(asked, 0, math.inf, "seconds", above=True)
    seconds = asked.seconds or _SECONDS[asked.tune]
    settings = {name: value for name in _SETTINGS if (value := getattr(asked, name)) is not None}
    config = tailor(asked.env, asked.algo, asked.preset, **settings)
    reject_ineffective(config, describe(config.env, config.environment), settings)
    if asked.tune:
        preset = {} if asked.preset is None else {"preset": asked.preset}
        tuning = tune(config, seconds, settings, say=(lambda line: None) if asked.json else _say)
        print(json_text(tuning.to_json()) if asked.json else tuning_text(tuning, {**preset, **settings}))
        return 0
    report = bench(config, seconds)
    print(json_text(report.to_json()) if asked.json else _text(report))
    return 0


def _say(line: str) -> None:
    print(line, flush=True)


def _text(report: Report) -> str:
    config = report.config
    hardware, where = machine(), "the GPU" if report.uses_gpu else "one core"
    rows = [
        ("environments, random actions", report.environment),
        ("acting", report.acting),
        ("learning", report.learning),
        ("bound: these cores beside the GPU" if report.uses_gpu else "bound: all three on these cores", report.bound),
        ("training, end to end", report.end_to_end),
    ]
    table = "\n".join(f"{name:<34}{rate:>10,.0f} steps/s{rate * report.frame_skip:>12,.0f} frames/s" for name, rate in rows)
    return (
        f"{config.env}, {config.algorithm.name}, {config.network.network}, {config.precision.value}, "
        f"{config.actors} × {config.envs_per_actor} environments, engine {config.engine.value}, lag {config.lag}\n"
        f"{hardware['cores']} cores of {hardware['cpu']}, torch {hardware['torch']}\n\n{table}\n\n"
        f"{report.share_of_bound:.0%} of the bound, {report.cpu:.0%} of the cores, {report.memory_bytes / 2**20:,.0f} MiB\n"
        f"policy lag {report.policy_lag:.2f}, {1e3 * report.update_seconds:,.1f} ms per update on {where}, "
        f"first update after {report.first_update_seconds:.1f} s\n\n"
        + textwrap.fill(report.verdict["verdict"], page_width())
    )
