"""Code by name, as runs note it: `module:Name`; and code that no other process finds by its name.

What a script, a notebook or standard input defines (`__main__`), a lambda, or a class inside a function is known by a name
in this process only. It can be sent to processes that this one starts; no file ever holds it.
"""

from __future__ import annotations

import contextlib
import functools
import pickle
import sys
from collections.abc import Iterable
from typing import Any

from asyncrl.errors import UsageError

__all__ = ["dump", "find", "install", "is_known_here_only", "name_of"]

_given: dict[str, Any] = {}
"""Objects that are not found by their name, by the name that they were given in this process."""


def name_of(code: Any) -> str:
    """`module:Name` of a class or function; `find` is the inverse in this process."""
    plain = code
    while isinstance(plain, functools.partial):
        plain = plain.func
    if not hasattr(plain, "__qualname__"):
        plain = type(plain)
    module, path = plain.__module__, plain.__qualname__
    if _attribute(module, path) is code:
        return f"{module}:{path}"
    first = name = f"{module}:{path}"
    count = 1
    while find(name) not in (None, code):  # another one has it
        count += 1
        name = f"{first}-{count}"
    _given[name] = code
    return name


def find(name: str) -> Any:
    """What `module:Name` names, if its module is imported; None where there is no such thing."""
    module, _, path = name.rpartition(":")
    return _given[name] if name in _given else _attribute(module, path)


def is_known_here_only(name: str) -> bool:
    """Does no other process find this by its name?"""
    module = name.rpartition(":")[0]
    return name in _given or (module != "" and not _is_importable(module))


def dump(names: Iterable[str], others: Iterable[Any], what: str) -> bytes:
    """What `install` takes in another process: the code behind those names that are known here only, and `others`.

    Raises UsageError, which names `what`, where that cannot be sent.
    """
    import cloudpickle

    objects = {name: find(name) for name in names if is_known_here_only(name)}
    objects = {name: code for name, code in objects.items() if code is not None}
    others = list(others)
    with contextlib.ExitStack() as stack:
        for module in {m for code in (*objects.values(), *others) for m in _modules_of(code)}:
            if module in sys.modules and module != "__main__" and not _is_importable(module):
                cloudpickle.register_pickle_by_value(sys.modules[module])
                stack.callback(cloudpickle.unregister_pickle_by_value, sys.modules[module])
        try:
            return bytes(cloudpickle.dumps((objects, others)))
        except Exception as problem:
            raise UsageError(
                f"{what} cannot be sent to another process ({type(problem).__name__}: {problem}): define it in a module "
                "and name it module:Name, or take --engine threads"
            ) from None


def install(data: bytes, what: str) -> list[Any]:
    """Know from now on what `dump` sent from another process, by the names that it has there; returns the others.

    Raises UsageError, which names `what`, where it refers to modules that are not found here.
    """
    try:
        objects, others = pickle.loads(data)
    except Exception as problem:
        raise UsageError(
            f"{what} cannot be made in another process ({type(problem).__name__}: {problem}): what it uses must lie in "
            "modules that can be imported, or take --engine threads"
        ) from None
    _given.update(objects)
    for name, code in objects.items():
        module, _, path = name.rpartition(":")
        if module == "__main__":  # also for others who look it up there, as Gymnasium does
            setattr(sys.modules["__main__"], path, code)
    return list(others)


def _attribute(module: str, path: str) -> Any:
    found: Any = sys.modules.get(module)
    for name in path.split("."):
        found = getattr(found, name, None)
    return found


def _is_importable(module: str) -> bool:
    """Would a fresh process with the same search path find it?"""
    name, path = "", None
    for part in module.split("."):
        name = f"{name}.{part}".lstrip(".")
        specs = (finder.find_spec(name, path) for finder in sys.meta_path if hasattr(finder, "find_spec"))
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is None or module == "__main__":
            return False
        path = spec.submodule_search_locations
    return True


def _modules_of(code: Any) -> set[str]:
    """The modules that define a function, or a class and those above it."""
    while isinstance(code, functools.partial):
        code = code.func
    kinds = code.__mro__ if isinstance(code, type) else (code, *type(code).__mro__)
    return {str(kind.__module__) for kind in kinds if getattr(kind, "__module__", None)}
