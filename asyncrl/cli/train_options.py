"""Options of `asyncrl train`: which there are for an algorithm and an environment, and which its short help shows."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from asyncrl.algorithms import Random
from asyncrl.cli.options import Option, options_of, remove_option
from asyncrl.envs import Backend, describe
from asyncrl.envs.family_options import check_names, option_names
from asyncrl.envs.registry import family_of
from asyncrl.errors import AsyncRLError
from asyncrl.experience import OffPolicy
from asyncrl.networks import ActorCritic, DeterministicActorCritic, QNetwork
from asyncrl.runs.config.run_config import RunConfig
from asyncrl.runs.config.settings import AUTO

__all__ = ["BASIC", "NewRun", "Output", "envpool_setting", "reject_other_families", "takes_auto_actors", "train_options"]

BASIC = {
    "Run": {
        "steps": "Environment steps over all actors",
        "seed": "Seed of the run",
        "actors": "Actors; auto finds their number",
        "envs_per_actor": "Environments per actor",
        "engine": "Where actors run",
        "device": "Device of the network",
        "action_mask": "Choose among allowed actions only",
    },
    "Algorithm": {
        "learning_rate": "Learning rate",
        "t_max": "Steps per rollout",
        "n_step": "Steps of the n-step return",
        "discount": "Discount γ",
        "gae_lambda": "λ of generalized advantage estimation",
        "entropy_cost": "Weight of the entropy bonus",
        "clip_range": "Clip range of the probability ratio",
        "epochs": "Passes over the rollouts per update",
        "minibatches": "Minibatches per pass",
        "capacity": "Steps in the replay buffer",
        "batch_size": "Steps per minibatch",
        "learning_starts": "Steps before the first update",
        "target_every": "Steps between target network updates",
        "epsilon_steps": "Steps until ε reaches its final value",
        "final_epsilons": "Final ε",
        "network": "Network",
        "hidden": "Units of the dense layers",
        "recurrent": "Recurrent layer",
    },
    "Evaluation and output": {
        "target_return": "Stop when an evaluation reaches this mean return",
        "eval_every": "Evaluate every N steps; 0: at the end",
        "eval_episodes": "Episodes per evaluation",
        "seeds": "Number of runs with different seeds, reported together",
        "run_dir": "Folder of the run",
        "video": "Video of the trained agent at the end",
        "watch": "Show the run on a live page in the browser",
    },
}
"""Options that most people set, by section, with a short text: `--help` shows those that apply."""

_IMAGES = frozenset({"frame_skip", "frame_stack", "screen_size", "gray", "centered", "difference", "resnet_width"})
_ACTION_VALUES = frozenset({"dueling", "noisy", "noisy_sigma"})
_DENSE = frozenset({"hidden", "activation"})
_NORMAL = frozenset({"initial_std", "adaptive_std"})
_OF_VECTORS = frozenset({"radial_gammas", "radial_features", "standardize"})


@dataclass(frozen=True)
class Output:
    """Files and messages of a run."""

    run_dir: Path | None = None
    """Folder of the run. Default: runs/ALGO-ENV-TIME."""
    video: bool = True
    """Record a video of the trained agent at the end."""
    watch: bool = False
    """Show the run on a live page in the browser while it trains (asyncrl watch)."""
    quiet: bool = False
    """Print only the result."""
    print_config: bool = False
    """Print the settings as a file for --config; start nothing."""
    seeds: int | None = None
    """Train with this many seeds, from --seed on, and report the scores with their interval (asyncrl benchmark)."""
    on_ray: str | None = None
    """With --seeds: run them on this Ray cluster, one process each: HOST:PORT, auto for this machine's cluster, or
    local to start one. Default: this machine."""
    remote_learner: bool = False
    """With --engine ray: train on another node of the cluster too, with a GPU if there is one (needs --storage)."""
    trust: bool = False
    """Run code that the file of --config names even if it is in the run folder of someone else."""


@dataclass(frozen=True)
class NewRun:
    """The options of `asyncrl train`."""

    run: RunConfig
    output: Output = field(default_factory=Output)


def train_options(config: RunConfig) -> list[Option]:
    """The options of a new run that concern its algorithm and its environment, with the values of `config`."""
    without = _ineffective(config)
    if config.env:
        without |= family_of(config.env, config.environment).unsupported.keys()
    options = [option for option in options_of(config, "run") if option.name not in without]
    return [*options, *options_of(Output, "output")]


def envpool_setting(words: Sequence[str]) -> dict[str, Any]:
    """Return `--env-backend envpool` as a setting, because it decides the environment's family; {} without it."""
    chosen = remove_option([*words], "--env-backend")[-1:]
    return {"env_backend": Backend.ENVPOOL} if chosen == [Backend.ENVPOOL.value] else {}


def takes_auto_actors(words: list[str]) -> bool:
    """Remove `--actors auto` from `words`; False if the last `--actors` is a number or missing."""
    values = remove_option(words, "--actors")
    if values[-1:] == [AUTO]:
        return True
    words += [word for value in values for word in ("--actors", value)]
    return False


def reject_other_families(words: Sequence[str], config: RunConfig) -> None:
    """Raise UsageError for an option among `words` that only other families of environments have."""
    given = {word[2:].partition("=")[0].replace("-", "_").removeprefix("no_") for word in words if word.startswith("--")}
    check_names(sorted(given & option_names()), config.environment, config.env)


def _ineffective(config: RunConfig) -> frozenset[str]:
    """Options without effect on the algorithm, or on observations of the environment's kind."""
    without: set[str] = set()
    if isinstance(config.algorithm, Random):
        learning = (config.optimizer, config.network)
        without |= {"init_from", *(option.name for table in learning for option in options_of(table))}
    if not issubclass(config.algorithm.network, QNetwork):
        without |= _ACTION_VALUES
    if not config.algorithm.learns_value:
        without.add("normalize_value")
    if not issubclass(config.algorithm.network, ActorCritic):
        without |= _NORMAL
    if not hasattr(config.algorithm, "discount"):
        without.add("normalize_return")
    if not isinstance(config.algorithm.experience(), OffPolicy):
        without |= {"offline", *(field.name for field in dataclasses.fields(config.bots))}
    elif not hasattr(config.algorithm, "sequences"):
        without |= {"recurrent", "recurrent_size"}
    if config.env:
        if not family_of(config.env, config.environment).has_threads:
            without.add("env_threads")
        with contextlib.suppress(AsyncRLError):  # if it cannot be made here, every option is shown
            contract = describe(config.env, dataclasses.replace(config.environment, standardize=0))
            if not contract.has_action_mask:
                without.add("action_mask")
            if not contract.spaces.actions.is_continuous:
                without |= _NORMAL
            if not contract.spaces.has_images:
                without |= _IMAGES
            elif not contract.spaces.features.entries:
                without |= _OF_VECTORS
                if not issubclass(config.algorithm.network, DeterministicActorCritic):  # critics have dense layers
                    without |= _DENSE
    return frozenset(without)
