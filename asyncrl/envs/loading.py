"""Imports the user's modules and translates what making an environment raises."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import gymnasium

from asyncrl.common.named_code import check_module_name, describe_exception, describe_missing
from asyncrl.common.signals import is_from_keyboard
from asyncrl.errors import AsyncRLError, EnvironmentFault, UsageError

__all__ = ["import_module", "import_modules", "takes_no_render_mode", "translate_errors"]


def import_modules(modules: Sequence[str]) -> None:
    """Import modules that register environments.

    Raises UsageError for a module that is missing, EnvironmentFault for one that raises.
    """
    for module in modules:
        import_module(module, f"--import {module}")


def import_module(module: str, source: str) -> Any:
    """Import a module, also from the working directory; errors name `source`, which asked for it."""
    check_module_name(module, source)
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    with translate_errors(source, "was imported"):
        try:
            return importlib.import_module(module)
        except ModuleNotFoundError as problem:
            raise UsageError(f"{source}: {describe_missing(module, problem)}") from None
        except ImportError as problem:
            raise UsageError(f"{source}: importing {module} {describe_exception(problem)}") from None


@contextlib.contextmanager
def translate_errors(env_id: str, when: str = "was made", kwargs: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Turn whatever an environment raises into a UsageError (a missing package, bad `kwargs`) or an EnvironmentFault."""
    try:
        yield
    except gymnasium.error.DependencyNotInstalled as problem:
        raise UsageError(f"{env_id} needs a package that is not installed: {problem}") from None
    except ImportError as problem:
        raise UsageError(f"{env_id} needs something that cannot be imported: {problem}") from None
    except AsyncRLError:
        raise
    except BaseException as problem:
        if is_from_keyboard(problem):
            raise
        kind = type(problem).__name__
        if isinstance(problem, TypeError) and "unexpected keyword argument 'render_mode'" in str(problem):
            raise takes_no_render_mode(env_id) from None
        if kwargs:
            raise UsageError(f"{env_id} raised {kind} for --env-kwargs {json.dumps(kwargs)}: {problem}") from None
        raise EnvironmentFault(f"{env_id} raised {kind} when it {when}: {problem}", traceback.format_exc()) from problem


def takes_no_render_mode(env_id: str) -> UsageError:
    """Return the error of an environment that cannot be asked for pictures."""
    return UsageError(f"{env_id} cannot be drawn: its constructor takes no render_mode")
