"""Conversions between dtypes raise an error if a number would wrap, lose its fraction or become infinite."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from asyncrl.common.dtypes import exact, first_rounded

DTYPES = [
    np.dtype(name)
    for name in [
        "bool",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "int8",
        "int16",
        "int32",
        "int64",
        "float16",
        "float32",
        "float64",
    ]
]
numbers = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False)


def array_of(number: float, dtype: np.dtype) -> np.ndarray | None:
    """The number in an array, where the dtype has it."""
    try:
        with np.errstate(all="ignore"):
            made = np.array([number]).astype(dtype)
    except OverflowError:
        return None
    return made


@settings(max_examples=300, suppress_health_check=[HealthCheck.filter_too_much])
@given(numbers, st.sampled_from(DTYPES), st.sampled_from(DTYPES))
def test_whole_numbers_come_out_as_they_went_in_or_are_refused(number: float, source: np.dtype, target: np.dtype) -> None:
    values = array_of(number, source)
    assume(values is not None)
    found = exact_or_none(values, target)
    assume(found is not None)
    assert found.dtype == target
    if target.kind == "f":
        assert np.isfinite(found[0]) == np.isfinite(values[0])
    else:
        assert int(found[0]) == values[0].item()


def exact_or_none(values: np.ndarray, target: np.dtype) -> np.ndarray | None:
    try:
        return exact(values, target)
    except ValueError:
        return None


@pytest.mark.parametrize(
    ("values", "target"),
    [
        (np.array([3, 300], np.uint16), "uint8"),
        (np.array(-1), "uint64"),
        (np.array([0.5]), "int32"),
        (np.array([1e39]), "float32"),
        (np.array([70_000]), "float16"),
        (np.array([2]), "bool"),
        (np.array([2**63], np.uint64), "int64"),
        (np.array([np.nan]), "int64"),
    ],
)
def test_what_does_not_fit_is_named(values: np.ndarray, target: str) -> None:
    with pytest.raises(
        ValueError, match=rf"holds {re.escape(str(values.ravel()[-1].item()))}.*, which {target} cannot hold"
    ):
        exact(values, target)


@pytest.mark.parametrize("values", [np.array([3, 255]), np.array([0.0, 1.0]), np.array([True, False])])
def test_what_fits_is_taken_whatever_its_dtype(values: np.ndarray) -> None:
    assert exact(values, np.uint8).tolist() == values.tolist()


def test_text_and_objects_are_no_numbers() -> None:
    for values in (np.array(["3"]), np.array([None]), np.array([1j])):
        with pytest.raises(ValueError, match="has the dtype"):
            exact(values, np.float32)


def test_the_first_large_number_that_float32_rounds_is_found() -> None:
    assert first_rounded(np.array([1e9, 1e9 + 37])) == (1e9 + 37, 1_000_000_064.0)
    assert first_rounded(np.array([3, 2**24 + 1, -(2**60) - 1])) == (2**24 + 1, 2**24)
    assert first_rounded(np.array([0.1, 2**24, 1e10, np.inf, np.nan])) is None
