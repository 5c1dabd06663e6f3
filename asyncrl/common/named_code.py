"""Code that the user names: `module:Name`, an entry point of an installed package, or a class or function itself."""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asyncrl.common import import_strings
from asyncrl.common.signals import is_from_keyboard
from asyncrl.errors import UsageError, suggestions

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["check_module_name", "describe_exception", "describe_missing", "installed", "load"]

_PYTHON = sysconfig.get_path("stdlib")
_PACKAGE = str(Path(__file__).parents[1])


def installed(group: str) -> dict[str, str]:
    """Return the entry points that installed packages have in `group`, such as `module:Name of package 1.2`, by name.

    Nothing is imported.
    """
    return {name: _place_of(point) for name, point in _points(group).items()}


def load(name: str, what: str, group: str) -> Any:
    """Return the object that `name` names: `module:Name`, also in the working directory, or an entry point of `group`.

    Raises UsageError, which begins with `what`, if there is no such module, attribute or entry point, or if importing the
    module raises.
    """
    found = import_strings.find(name) if ":" in name else None
    if found is not None:
        return found
    if ":" not in name:
        name = _points(group)[name].value
    module, _, path = name.rpartition(":")
    if not module or not path:
        raise UsageError(f"{what} {name} is named module:Name, such as nets:Encoder for the class Encoder in nets.py")
    if module == "__main__" or "<" in path:
        raise UsageError(
            f"{what} {name} is defined in a script, a notebook or a function, which this process cannot import: move it "
            "into a module and name it module:Name"
        )
    imported = _import(module, f"{what} {name}")
    found = import_strings.find(name)
    if found is None and hasattr(imported, path):
        raise UsageError(f"{what} {name}: it is None; expected a class or a function")
    if found is None:
        raise UsageError(f"{what} {name}: {module} has no {path!r}{suggestions(path, vars(imported))}")
    return found


def describe_exception(problem: BaseException) -> str:
    """Return what the user's code raised and where, such as `raised ValueError: … (nets.py, line 7)`.

    The place is the innermost line that belongs neither to Python nor to torch nor to this package.
    """
    if isinstance(problem, SyntaxError) and problem.filename is not None:
        text, places = problem.msg, [(problem.filename, problem.lineno)]
    else:
        text = str(problem)
        places = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(problem.__traceback__)]
    raised = ": ".join(filter(None, [type(problem).__name__, " ".join(text.split())]))
    own = [place for place in places if _is_users(place[0])]
    return f"raised {raised} ({_relative(own[-1][0])}, line {own[-1][1]})" if own else f"raised {raised}"


def _is_users(file: str) -> bool:
    """Whether a file of a traceback belongs neither to Python nor to torch nor to this package."""
    is_installed = any(f"{os.sep}{name}{os.sep}" in file for name in ("site-packages", "dist-packages"))
    is_python = file.startswith((f"{_PYTHON}{os.sep}", "<frozen")) and not is_installed
    return not (is_python or file.startswith(f"{_PACKAGE}{os.sep}") or f"{os.sep}torch{os.sep}" in file)


def _relative(file: str) -> str:
    """A path relative to the working directory, if it lies inside."""
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file


def _points(group: str) -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points  # environment workers start sooner without it

    return {point.name: point for point in sorted(entry_points(group=group), key=lambda point: point.name)}


def _place_of(point: EntryPoint) -> str:
    return point.value if point.dist is None else f"{point.value} of {point.dist.name} {point.dist.version}"


def _import(module: str, source: str) -> Any:
    """Import a module; errors begin with `source`."""
    check_module_name(module, source)
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    importlib.invalidate_caches()  # the file may be newer than the last look at its folder
    with _translate_errors(source, module):
        return importlib.import_module(module)


@contextlib.contextmanager
def _translate_errors(source: str, module: str) -> Iterator[None]:
    """Turn what an import raises into a UsageError that names the innermost line."""
    try:
        yield
    except ModuleNotFoundError as problem:
        raise UsageError(f"{source}: {describe_missing(module, problem)}") from None
    except BaseException as problem:
        if is_from_keyboard(problem):
            raise
        raise UsageError(f"{source}: importing {module} {describe_exception(problem)}") from problem


def check_module_name(module: str, source: str) -> None:
    """Raise UsageError, which begins with `source`, for what cannot be the name of a module, such as a path."""
    if module.startswith(".") or re.search(r"[/\\:]", module):
        stem = re.sub(r"[./\\:]+", ".", module.removesuffix(".py")).strip(".") or "nets"
        raise UsageError(f"{source}: {module!r} is not the name of a module; that of {stem.replace('.', '/')}.py is {stem}")


def describe_missing(module: str, problem: ModuleNotFoundError) -> str:
    """Return what is missing if importing `module` raised `problem`, with the remedy."""
    missing = problem.name or module
    if missing != module and not module.startswith(f"{missing}."):  # the module imports another, which is missing
        return f"{module} needs the module {missing}, which is not installed"
    near = suggestions(missing, _modules_here())
    return f"there is no module {missing!r}{near or '; its folder must be the working directory, or in PYTHONPATH'}"


def _modules_here() -> list[str]:
    """Return the modules and packages in the working directory, and the top-level modules that are imported."""
    files = [path.stem for path in Path.cwd().glob("*.py")]
    packages = [path.parent.name for path in Path.cwd().glob("*/__init__.py")]
    return [*files, *packages, *(name for name in sys.modules if "." not in name)]
