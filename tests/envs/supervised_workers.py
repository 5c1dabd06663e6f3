"""Vector environments whose workers fail, and a check of what their tests leave behind."""

from __future__ import annotations

import contextlib
import functools
import gc
import os
from collections.abc import Iterator
from typing import Any

import failing_envs
import numpy as np
import psutil
import pytest

from asyncrl.common.serialization import to_json
from asyncrl.envs import Backend, Contract
from asyncrl.envs.options import Supervision
from asyncrl.envs.spaces import Actions, Spaces
from asyncrl.envs.supervision.supervised import SupervisedVectorEnv


def contract_of(name: str, kwargs: dict[str, Any]) -> dict[str, Any]:
    """As JSON."""
    spaces = Spaces((1,), "float32", Actions((2,), (0,)))
    settings = {"kwargs": kwargs}
    found: dict[str, Any] = to_json(Contract(f"failing_envs:{name}", "gymnasium", Backend.ASYNC, spaces, settings=settings))
    return found


@contextlib.contextmanager
def supervised(name: str, num_envs: int = 1, /, *, kwargs: dict[str, Any] | None = None, **rules: Any) -> Iterator[Any]:
    kwargs = kwargs or {}
    make = functools.partial(getattr(failing_envs, name), **kwargs)
    vector = SupervisedVectorEnv(make, num_envs, contract=contract_of(name, kwargs), supervision=Supervision(**rules))
    with contextlib.closing(vector):
        yield vector


@pytest.fixture(scope="module", autouse=True)
def earlier_objects_are_left_out() -> None:
    """After some thousand tests of other modules, a collection of their objects takes half a second."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    gc.collect()
    open_before = len(os.listdir("/proc/self/fd"))
    yield
    gc.collect()  # objects in the frames of a raised error
    assert [p for p in psutil.Process().children() if "asyncrl.envs.supervision.worker" in " ".join(p.cmdline())] == []
    assert len(os.listdir("/proc/self/fd")) <= open_before


def played(vector: Any, steps: int, seed: int = 7) -> list[Any]:
    """All that comes out of `steps` steps with the same actions each time, and of the reset before them."""
    random = np.random.default_rng(3)
    came: list[Any] = [vector.reset(seed=seed)]
    for _ in range(steps):
        came.append(vector.step(random.integers(vector.single_action_space.n, size=vector.num_envs)))
    return came
