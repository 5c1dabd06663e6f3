"""asyncrl train --resume RUN: the options that may change in a run, and the reasons why others may not."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from asyncrl.cli.help import print_help
from asyncrl.cli.options import HELP, Option, options_of, read_values, remove_option, with_values
from asyncrl.common.quoting import quoted
from asyncrl.common.validation import flag
from asyncrl.errors import UsageError
from asyncrl.launch import newest_checkpoint
from asyncrl.runs.checkpoints.checkpoint import Checkpoint
from asyncrl.runs.config.changes import check_change, may_change
from asyncrl.runs.config.foreign_names import explain_unknown
from asyncrl.runs.config.run_config import RunConfig
from asyncrl.runs.config.setting_paths import paths_in
from asyncrl.runs.lookup import open_to_resume
from asyncrl.runs.remote.fetched import fetched

__all__ = ["ResumeRequest", "read_continuation"]

_ABOUT = (
    "Continue a run from its newest checkpoint. Only these settings can change, and --learning-rate if the run diverged."
)
_BASIC = {
    "Run": ("steps", "target_return", "engine"),
    "Evaluation": ("eval_every", "eval_episodes"),
    "Checkpoints and logs": ("checkpoint_every", "log_every", "on_divergence"),
    "Output": ("video", "watch", "quiet", "trust"),
}

_FIXED = {
    "run_dir": "a run stays in its own folder",
    "preset": "it decides the weights",
    "config": "it has its own, and options change what may change",
    "seeds": "it has one",
    "on_ray": "it spreads the runs of --seeds N; for the actors of this one: --engine ray",
    "remote_learner": "start `asyncrl train --resume URL` on the node that is to have it",
    "algorithm": "it decides the weights",
    "import": "it belongs to the environment's contract",
}
"""Options of a new run that are not settings, and why they cannot change."""


@dataclass(frozen=True)
class Output:
    """Options that are not settings of the run."""

    video: bool = True
    """Record a video of the trained agent at the end."""
    watch: bool = False
    """Show the run on a live page in the browser while it trains (asyncrl watch)."""
    quiet: bool = False
    """Print only the result."""
    trust: bool = False
    """Run code that the run folder names even if someone else made the folder."""


class ResumeRequest(NamedTuple):
    """A parsed command line."""

    run: Path
    newest: Checkpoint | None
    """The run's newest checkpoint that is not damaged."""
    config: RunConfig
    """The run's configuration so far."""
    changes: dict[str, Any]
    """New values of settings, by name."""
    output: Output


def read_continuation(arguments: Sequence[str]) -> ResumeRequest | None:
    """Parse the command line; returns None after printing the help.

    Raises UsageError for an option that cannot change when a run is resumed, with the reason.
    """
    words = list(arguments)
    if set(HELP) & set(words):
        options = [*_settings(RunConfig, may_change(diverged=False)), *options_of(Output)]
        usage = "asyncrl train --resume RUN [options]"
        print_help([usage], _ABOUT, options, _BASIC, show_all="--help-all" in words)
        return None
    folders = remove_option(words, "--resume")
    if len(folders) != 1:
        raise UsageError(f"--resume takes one run, not {len(folders)}: {', '.join(folders)}")
    if words and not words[0].startswith("-"):
        raise UsageError(f"a resumed run has its algorithm and environment: asyncrl train --resume {quoted(folders[0])}")
    place, follows = fetched(folders[0], lambda line: print(line, file=sys.stderr))
    run = open_to_resume(place, trust="--trust" in words)
    newest = newest_checkpoint(run) if run.has_saved else None  # none if the run failed at its start
    config, diverged = (run.beginning()[0], False) if newest is None else (newest.config, newest.diverged)
    settings = _settings(config, may_change(diverged=diverged))
    options = [*settings, *options_of(Output(video=run.facts().get("video", True) is True))]
    for word in words:
        if word.startswith("--"):
            _check_option(word[2:].partition("=")[0].replace("-", "_"), config, options, diverged=diverged)
    values = read_values(options, words)
    output = with_values(Output(video=run.facts().get("video", True) is True), values)
    before = {option.name: option.default for option in settings}
    changes = {name: value for name, value in values.items() if name in before and value != before[name]}
    follows |= {"storage": values["storage"]} if follows and "storage" in values else {}
    return ResumeRequest(run.path, newest, config, {**changes, **follows}, output)


def _settings(config: Any, names: Sequence[str]) -> list[Option]:
    by_name = {option.name: option for option in options_of(config, "run")}
    return [by_name[name] for name in names]


def _check_option(name: str, config: RunConfig, options: Sequence[Option], *, diverged: bool) -> None:
    """Raise UsageError for an option that a continued run does not take."""
    own = {option.name for option in options}
    settings = paths_in(config)
    if name not in own | settings.keys() and name.startswith("no_"):
        name = name.removeprefix("no_")
    if name in own:
        return
    if name == "print_config":
        raise UsageError("--print-config is for new runs; RUN/config.toml has the settings")
    if name in _FIXED:
        raise UsageError(f"{flag(name)} cannot change when a run is resumed: {_FIXED[name]}")
    if name not in settings:
        known = map(flag, [*own, *settings, *_FIXED, "print_config"])
        raise UsageError(f"unknown option {flag(name)}{explain_unknown(flag(name), known)}")
    check_change(config, name, diverged=diverged)
