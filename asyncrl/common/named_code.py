"""Code that the user names: `module:Name`, an entry point of an installed package, or a class or function itself."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import traceback
from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from asyncrl.common import import_strings
from asyncrl.common.signals import is_from_keyboard
from asyncrl.errors import UsageError, suggestions

__all__ = ["describe_exception", "installed", "load", "place_of"]


def installed(group: str) -> dict[str, EntryPoint]:
    """Return the entry points that installed packages have in `group`, by name. Nothing is imported."""
    return {point.name: point for point in sorted(entry_points(group=group), key=lambda point: point.name)}


def place_of(point: EntryPoint) -> str:
    """Return the place of an entry point and the package that has it."""
    return point.value if point.dist is None else f"{point.value} of {point.dist.name} {point.dist.version}"


def load(name: str, what: str, group: str) -> Any:
    """Return the object that `name` names: `module:Name`, also in the working directory, or an entry point of `group`.

    Raises UsageError, which begins with `what`, if there is no such module, attribute or entry point, or if importing the
    module raises.
    """
    found = import_strings.find(name) if ":" in name else None
    if found is not None:
        return found
    if ":" not in name:
        name = installed(group)[name].value
    module, _, path = name.rpartition(":")
    if not module or module == "__main__" or "<" in path:
        raise UsageError(
            f"{what} {name} is defined in a script, a notebook or a function, which this process cannot import: move it "
            "into a module and name it module:Name"
        )
    imported = _import(module, f"{what} {name}")
    found = import_strings.find(name)
    if found is None:
        raise UsageError(f"{what} {name}: {module} has no {path!r}{suggestions(path, vars(imported))}")
    return found


def describe_exception(problem: BaseException) -> str:
    """Return what the user's code raised and where, such as `raised ValueError: … (nets.py, line 7)`."""
    frames = traceback.extract_tb(problem.__traceback__)
    own = [frame for frame in frames if f"{os.sep}torch{os.sep}" not in frame.filename and "<frozen" not in frame.filename]
    frame = (own or frames)[-1]
    raised = ": ".join(filter(None, [type(problem).__name__, " ".join(str(problem).split())]))
    return f"raised {raised} ({frame.filename}, line {frame.lineno})"


def _import(module: str, source: str) -> Any:
    """Import a module; errors begin with `source`."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    importlib.invalidate_caches()  # the file may be newer than the last look at its folder
    with _one_sentence(source, module):
        return importlib.import_module(module)


@contextlib.contextmanager
def _one_sentence(source: str, module: str) -> Iterator[None]:
    """Turn what an import raises into a UsageError that names the innermost line."""
    try:
        yield
    except ModuleNotFoundError as problem:
        missing = problem.name or module
        if missing != module and not module.startswith(f"{missing}."):  # the module imports another, which is missing
            raise UsageError(f"{source}: {module} needs the module {missing}, which is not installed") from None
        raise UsageError(f"{source}: there is no module {missing!r}{suggestions(missing, _modules_here())}") from None
    except BaseException as problem:
        if is_from_keyboard(problem):
            raise
        raise UsageError(f"{source}: importing {module} {describe_exception(problem)}") from problem


def _modules_here() -> list[str]:
    """Return the modules and packages in the working directory, and the top-level modules that are imported."""
    files = [path.stem for path in Path.cwd().glob("*.py")]
    packages = [path.parent.name for path in Path.cwd().glob("*/__init__.py")]
    return [*files, *packages, *(name for name in sys.modules if "." not in name)]
