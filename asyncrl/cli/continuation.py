"""asyncrl train --resume RUN: which options it takes, and why not the others."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple, get_type_hints

import tyro

from asyncrl.algorithms.optimizers import OptimizerConfig
from asyncrl.api import newest_checkpoint
from asyncrl.cli.options import parse, take_out
from asyncrl.common.validation import flag
from asyncrl.errors import UsageError, suggestions
from asyncrl.runs.changes import check_change, may_change, setting_paths
from asyncrl.runs.config import RunConfig
from asyncrl.runs.run import Run

__all__ = ["ResumeRequest", "read_continuation"]

_FIXED = {
    "run_dir": "a run goes on in its own folder",
    "preset": "it decides the weights",
    "algorithm": "it decides the weights",
    "import": "it belongs to the environment's contract",
}
"""Options of a new run that are no settings, and why they cannot change."""


class ResumeRequest(NamedTuple):
    """What was asked for."""

    run: Path
    config: RunConfig
    """As the run has it."""
    changes: dict[str, Any]
    """By name, what is to be another value from now on."""
    quiet: bool
    video: bool
    trust: bool


def read_continuation(arguments: Sequence[str]) -> ResumeRequest:
    """Parse the command line. Raises UsageError for an option that cannot change in a run, with the reason."""
    words = list(arguments)
    if {"-h", "--help"} & set(words):
        parse(_options(None, diverged=True, video=True), "train --resume", ["--help"], _DESCRIPTION)
    folders = take_out(words, "--resume")
    if len(folders) != 1:
        raise UsageError(f"--resume continues one run, not {len(folders)}: {', '.join(folders)}")
    run = Run.open(Path(folders[0]))
    newest = newest_checkpoint(run) if run.checkpoints() else None  # a start that failed has none: it is begun again
    config, diverged = (run.beginning()[0], False) if newest is None else (newest.config, newest.diverged)
    options = _options(config, diverged=diverged, video=run.facts().get("video", True) is True)
    for word in words:
        if word.startswith("--"):
            _check_option(word[2:].partition("=")[0].replace("-", "_"), config, options, diverged=diverged)
    asked = parse(options, "train --resume", words, _DESCRIPTION)
    now = {name: _value(config, name) for name in may_change(diverged=diverged)}
    changes = {name: getattr(asked, name) for name, value in now.items() if getattr(asked, name) != value}
    return ResumeRequest(run.path, config, changes, asked.quiet, asked.video, asked.trust)


_DESCRIPTION = "Continue a run from its newest good checkpoint. What is not named stays as it was."


def _options(config: RunConfig | None, *, diverged: bool, video: bool) -> Any:
    """A dataclass of the options, each with the value that the run has; without a run, with that of a new one."""
    rows: list[Any] = []
    for name in may_change(diverged=diverged):
        cls = OptimizerConfig if name == "learning_rate" else RunConfig
        default = _value(config, name) if config else getattr(cls, name)
        note = " Only of a run that has diverged; it is another run from there on." if name == "learning_rate" else ""
        hint: Any = get_type_hints(cls)[name]
        text = _documentation(cls)[name] + note
        rows.append((name, Annotated[hint, tyro.conf.arg(help=text)], dataclasses.field(default=default)))
    for name, default, text in (
        ("quiet", False, "Say nothing until the end."),
        ("video", video, "Record one game of the trained agent."),
        ("trust", False, "Run what the folder names also where somebody else made it: environments, modules, bots."),
    ):
        rows.append((name, Annotated[bool, tyro.conf.arg(help=text)], dataclasses.field(default=default)))
    return dataclasses.make_dataclass("Options", rows, frozen=True)


def _value(config: RunConfig, name: str) -> Any:
    return config.optimizer.learning_rate if name == "learning_rate" else getattr(config, name)


def _documentation(cls: type) -> dict[str, str]:
    """The docstring of every field of a dataclass."""
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(body, ast.ClassDef)
    found = {}
    for field, text in zip(body.body, body.body[1:], strict=False):
        match field, text:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(words))):
                found[name] = inspect.cleandoc(words).replace("\n", " ")
    return found


def _check_option(name: str, config: RunConfig, options: Any, *, diverged: bool) -> None:
    """Raise UsageError for an option that a continued run does not take."""
    own = {field.name for field in dataclasses.fields(options)}
    places = [*setting_paths(RunConfig), *setting_paths(type(config.algorithm), "algorithm")]
    settings = {path[-1] for path in places}
    if name not in own | settings and name.startswith("no_"):
        name = name.removeprefix("no_")
    if name in own:
        return
    if name in _FIXED:
        raise UsageError(f"{flag(name)} cannot change in a run: {_FIXED[name]}")
    if name not in settings:
        known = map(flag, [*own, *settings, *_FIXED])
        raise UsageError(f"there is no option {flag(name)}{suggestions(flag(name), known)}")
    check_change(config, name, diverged=diverged)
