"""Environments that are stepped side by side: their infos, their observations, and whose they are."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from asyncrl.envs import Supervision
from asyncrl.envs.infos import batched, info_of
from asyncrl.envs.supervision.supervised import SupervisedVectorEnv
from asyncrl.envs.sync_vector import SyncEnvs
from asyncrl.errors import UsageError

INFO = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=3),
    st.lists(st.integers(), max_size=3),
    st.builds(np.arange, st.integers(0, 4)),
    st.dictionaries(st.sampled_from(["a", 1]), st.integers() | st.none(), max_size=2),
    st.builds(threading.Lock),  # nothing that can be copied or pickled
)


class Telling(gymnasium.Env[Any, Any]):
    """Returns another info with every step, and writes observations into one buffer of the class."""

    observation_space: ClassVar = spaces.Dict(n=spaces.Box(0, np.inf, (1,), np.float32))
    action_space: ClassVar = spaces.Discrete(2)
    buffer: ClassVar = np.zeros(1, np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._n = seed or 0
        return self._see(), {"x": self._tell()}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._n += 1
        return self._see(), 0.0, False, False, {"x": self._tell()}

    def _see(self) -> Any:
        self.buffer[0] = self._n
        return {"n": self.buffer}

    def _tell(self) -> Any:
        return (3, None, "text", {"a": 1}, 2**70, np.arange(self._n % 5), threading.Lock())[self._n % 7]


@given(st.lists(st.dictionaries(st.sampled_from(["x", "_x", 5]), INFO), min_size=1, max_size=4))
def test_infos_of_any_kind_become_rows(infos: list[dict[Any, Any]]) -> None:
    together = batched(dict(enumerate(infos)), len(infos))
    for i, info in enumerate(infos):
        for name, value in info.items():
            rows = together[name]
            if isinstance(rows, dict):
                assert all(_same(rows[key][i], inner) for key, inner in value.items())
            else:
                assert len(rows) == len(infos)
                assert _same(rows[i], value)


@given(st.lists(st.dictionaries(st.sampled_from(["x", "y", 5]), INFO), min_size=1, max_size=4))
def test_every_environment_gets_its_own_info_back(infos: list[dict[Any, Any]]) -> None:
    together = batched(dict(enumerate(infos)), len(infos))
    for i, info in enumerate(infos):
        back = info_of(together, i, len(infos))
        assert back.keys() == info.keys()
        for name, value in info.items():
            if isinstance(value, dict):
                assert back[name] == value
            else:
                assert _same(back[name], value)


def test_what_has_no_row_for_an_environment_is_not_in_its_info() -> None:
    assert info_of({"time": np.array(3.0), "word": "ab", "n": np.arange(2)}, 1, 2) == {"n": 1}


def _same(row: Any, value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return np.array_equal(row, value)
    return row is value or bool(row == value) or row != row


def test_numbers_and_arrays_of_one_shape_make_arrays_of_numbers() -> None:
    together = batched({0: {"n": 1, "v": np.ones(2)}, 2: {"n": 2.5, "v": np.zeros(2)}}, 3)
    assert together["n"].tolist() == [1.0, 0.0, 2.5]
    assert together["_n"].tolist() == [True, False, True]
    assert (together["v"].shape, together["v"].dtype) == ((3, 2), np.float64)


@pytest.mark.parametrize(
    "open_vector",
    [
        lambda: SyncEnvs("Telling", Telling, [0, 1, 2]),
        lambda: SupervisedVectorEnv(Telling, 3, contract={"env": "Telling"}, supervision=Supervision(restarts=0)),
    ],
    ids=["sync", "async"],
)
def test_odd_infos_and_shared_buffers_do_no_harm(open_vector: Callable[[], Any]) -> None:
    vector = open_vector()
    try:
        observation, _ = vector.reset(seed=[10, 20, 30])
        for n in range(9):
            assert observation["n"].ravel().tolist() == [10 + n, 20 + n, 30 + n]
            observation, *_ = vector.step(np.zeros(3, dtype=np.int64))
    finally:
        vector.close()


def test_environments_are_closed_if_one_of_them_cannot_be_made() -> None:
    closed = []

    class Closing(Telling):
        def close(self) -> None:
            closed.append(self)

    makers = iter([Closing, Closing])
    with pytest.raises(StopIteration):
        SyncEnvs("Closing", lambda: next(makers)(), [0, 1, 2])
    assert len(closed) == 2


def shared(wrap: Callable[[Any], Any]) -> Callable[[], Any]:
    one = Telling()
    return lambda: wrap(one)


@pytest.mark.parametrize(
    "wrap", [lambda env: env, partial(gymnasium.wrappers.TimeLimit, max_episode_steps=5)], ids=["itself", "wrapped"]
)
def test_an_environment_returned_twice_is_refused_across_actors(wrap: Callable[[Any], Any]) -> None:
    make = shared(wrap)
    with pytest.raises(UsageError, match=r"Ours returns the same environment twice \(Telling\)"):
        SyncEnvs("Ours", make, [0, 1])
    alone = SyncEnvs("Ours", make, [0])
    with pytest.raises(UsageError, match="twice"):
        SyncEnvs("Ours", make, [0])
    alone.close()
    SyncEnvs("Ours", make, [0]).close()
