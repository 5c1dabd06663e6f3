"""Names of code, `module:Name`, and transfer of code that other processes cannot import.

Classes and functions that are defined in a script, a notebook or another function, and lambdas, have a name in this process
only. They can be sent to child processes but are never saved to a file.
"""

from __future__ import annotations

import contextlib
import functools
import pickle
import sys
import threading
from collections.abc import Iterable
from typing import Any

from asyncrl.errors import UsageError

__all__ = ["dump", "find", "install", "is_local", "name_of"]

_local: dict[str, Any] = {}
"""Objects that cannot be found by their qualified name, by the name that this process has given them."""

_lock = threading.RLock()
"""Held while modules are registered with cloudpickle, and while an object is given its name."""


def name_of(code: Any) -> str:
    """Return `module:Name` of a class or function; `find` is the inverse in this process."""
    function = code
    while isinstance(function, functools.partial):
        function = function.func
    if not hasattr(function, "__qualname__"):
        function = type(function)
    module, path = function.__module__, function.__qualname__
    if _attribute(module, path) is code:
        return f"{module}:{path}"
    first = name = f"{module}:{path}"
    count = 1
    with _lock:
        while find(name) not in (None, code):  # another object has this name
            count += 1
            name = f"{first}-{count}"
        _local[name] = code
    return name


def find(name: str) -> Any:
    """Return the object named `module:Name`, or None if there is none or its module is not imported."""
    module, _, path = name.rpartition(":")
    return _local[name] if name in _local else _attribute(module, path)


def is_local(name: str) -> bool:
    """Return whether other processes cannot find the object with this name."""
    module = name.rpartition(":")[0]
    return name in _local or (module != "" and not _is_importable(module))


def dump(names: Iterable[str], others: Iterable[Any], what: str) -> bytes:
    """Pickle the local objects among `names`, and the objects `others`, for `install` in another process.

    Raises UsageError, which names `what`, if an object cannot be pickled.
    """
    import cloudpickle

    objects = {name: find(name) for name in names if is_local(name)}
    objects = {name: code for name, code in objects.items() if code is not None}
    others = list(others)
    with _lock, contextlib.ExitStack() as stack:
        for module in {m for code in (*objects.values(), *others) for m in _modules_of(code)}:
            if module in sys.modules and module != "__main__" and not _is_importable(module):
                cloudpickle.register_pickle_by_value(sys.modules[module])
                stack.callback(cloudpickle.unregister_pickle_by_value, sys.modules[module])
        try:
            return bytes(cloudpickle.dumps((objects, others)))
        except Exception as error:
            raise UsageError(
                f"{what} cannot be sent to another process ({type(error).__name__}: {error}): define it in a module and "
                "name it module:Name, or use --engine threads"
            ) from None


def install(data: bytes, what: str) -> list[Any]:
    """Register the local objects that `dump` sent under their names; return the others.

    Raises UsageError, which names `what`, if they refer to modules that cannot be imported here.
    """
    try:
        objects, others = pickle.loads(data)
    except Exception as error:
        raise UsageError(
            f"{what} cannot be created in another process ({type(error).__name__}: {error}): move the code that it uses to "
            "modules that can be imported, or use --engine threads"
        ) from None
    _local.update(objects)
    for name, code in objects.items():
        module, _, path = name.rpartition(":")
        if module == "__main__":  # Gymnasium looks it up there
            setattr(sys.modules["__main__"], path, code)
    return list(others)


def _attribute(module: str, path: str) -> Any:
    found: Any = sys.modules.get(module)
    for name in path.split("."):
        found = getattr(found, name, None)
    return found


def _is_importable(module: str) -> bool:
    """Return whether a new process with the same search path could import a module."""
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
    """Return the modules that define a function, or a class and its bases."""
    while isinstance(code, functools.partial):
        code = code.func
    kinds = code.__mro__ if isinstance(code, type) else (code, *type(code).__mro__)
    return {str(kind.__module__) for kind in kinds if getattr(kind, "__module__", None)}
