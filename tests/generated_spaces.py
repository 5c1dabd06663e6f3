"""Hypothesis strategies for the Gymnasium spaces that a correct environment may have."""

from __future__ import annotations

import string

import numpy as np
from gymnasium import spaces
from hypothesis import strategies as st

__all__ = ["action_spaces", "observation_spaces"]

_INTEGERS = (np.uint8, np.uint16, np.uint32, np.int8, np.int16, np.int32, np.int64)
_FLOATS = (np.float16, np.float32, np.float64)
_shapes = st.sampled_from(
    [(), (1,), (3,), (2, 3), (7, 7, 3), (1, 1, 2, 2), (36, 40), (40, 36, 3), (3, 36, 36), (36, 37, 2, 3)]
)
_starts = st.integers(-(2**40), 2**40)


@st.composite
def _boxes(draw: st.DrawFn) -> spaces.Box:
    dtype = np.dtype(draw(st.sampled_from([*_INTEGERS, *_FLOATS, np.bool_])))
    if dtype.kind == "b":
        low, high = 0, 1
    elif dtype.kind == "f":
        low, high = draw(st.sampled_from([(0, 1), (0, 255), (-1, 1), (-np.inf, np.inf), (-2.5, np.inf)]))
    else:
        low, high = draw(st.sampled_from([(0, 1), (0, 127), (np.iinfo(dtype).min, np.iinfo(dtype).max)]))
    return spaces.Box(low, high, draw(_shapes), dtype.type)


_discrete = st.builds(lambda n, start: spaces.Discrete(n, start=start), st.integers(1, 50), _starts)
_multi = st.builds(
    lambda parts, start: spaces.MultiDiscrete(parts, start=[start] * len(parts)),
    st.lists(st.integers(1, 6), min_size=1, max_size=4),
    st.integers(-9, 9),
)
_binary = st.builds(spaces.MultiBinary, st.sampled_from([1, 5, (2, 3)]))
_keys = st.text(string.ascii_lowercase + ". 0é", max_size=4) | st.integers(-3, 3)


def _nested(inner: st.SearchStrategy[spaces.Space]) -> st.SearchStrategy[spaces.Space]:
    dicts = st.dictionaries(_keys, inner, min_size=1, max_size=3).map(spaces.Dict)
    return dicts | st.lists(inner, min_size=1, max_size=3).map(spaces.Tuple)


observation_spaces = st.recursive(_boxes() | _discrete | _multi | _binary, _nested, max_leaves=4)


@st.composite
def _numbers(draw: st.DrawFn) -> spaces.Box:
    low, high = draw(st.sampled_from([(-1, 1), (0, 5), (-np.inf, np.inf), (3, np.inf), (2, 2)]))
    return spaces.Box(low, high, draw(st.sampled_from([(), (1,), (2, 2)])), draw(st.sampled_from(_FLOATS)))


action_spaces = _discrete | _multi | _binary | _numbers()
