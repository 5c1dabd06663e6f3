"""Settings under the names that they had in 0.1.0: still read, from files, options and keyword arguments; never written."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from asyncrl.algorithms import ALGORITHMS
from asyncrl.common.validation import flag

__all__ = ["rename_options", "rename_settings", "rename_tables"]

_RENAMED = {
    "also": "extra_envs",
    "clip": "clip_range",
    "conservative": "cql_alpha",
    "epsilon_floors": "final_epsilons",
    "epsilon_hold": "hold_random_actions",
    "epsilon_shares": "final_epsilon_probabilities",
    "highest_return": "v_max",
    "kl_stop": "max_kl",
    "lowest_return": "v_min",
    "noise": "noisy_sigma",
    "penalty": "td_loss",
    "target_rate": "tau",
    "value_clip": "value_clip_range",
}
_RENAMED_IN_ALGORITHM = {
    "actor-critic": {"trace_lambda": "gae_lambda"},
    "impala": {"trace_lambda": "vtrace_lambda"},
}


_PLACES = ("ram", "disk")
"""Values of `storage` while it meant the replay buffer's."""


def _renamed(algorithm: str) -> dict[str, str]:
    return _RENAMED | _RENAMED_IN_ALGORITHM.get(algorithm, {})


def _schedule(anneal: Any) -> str:
    return "linear" if anneal else "constant"


def rename_tables(config: Mapping[Any, Any], algorithm: str) -> dict[str, Any]:
    """The JSON of a run's configuration with today's names, in nested tables too."""
    if algorithm not in ALGORITHMS:  # 0.1.0 had no others
        return dict(config)
    renamed: dict[str, Any] = {}
    for name, value in config.items():
        if name == "anneal":
            renamed["learning_rate_schedule"] = _schedule(value)
        elif name == "storage" and value in _PLACES:
            renamed["replay_storage"] = value
        else:
            nested = isinstance(value, dict) and name != "environment"
            renamed[_renamed(algorithm).get(name, name)] = rename_tables(value, algorithm) if nested else value
    return renamed


def rename_settings(settings: Mapping[str, Any], algorithm: str) -> dict[str, Any]:
    """Keyword arguments with today's names. Warns (DeprecationWarning) of each former one."""
    renamed = rename_tables(settings, algorithm)
    for before, after in zip(settings, renamed, strict=False):
        if before != after:
            warnings.warn(f"{before} is now {after}; the old name will be removed", DeprecationWarning, stacklevel=3)
    return renamed


def rename_options(words: Sequence[str], algorithm: str) -> list[str]:
    """Command-line options with today's names. Each former one is reported on standard error."""
    if algorithm not in ALGORITHMS:
        return [*words]
    options = {flag(before): flag(after) for before, after in _renamed(algorithm).items()}
    switches = {f"--{no}anneal": f"--learning-rate-schedule={_schedule(not no)}" for no in ("", "no-")}
    renamed = []
    for word, following in zip(words, [*words, ""][1:], strict=True):
        option, equals, value = word.partition("=")
        new = switches.get(word) or (options[option] + equals + value if option in options else word)
        if option == "--storage" and (value if equals else following) in _PLACES:
            new = f"--replay-storage{equals}{value}"
        if new != word:
            print(f"{option} is now {new.removesuffix(equals + value)}; the old name will be removed", file=sys.stderr)
        renamed.append(new)
    return renamed
