"""How whole numbers may be written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncrl.cli.options import whole_number


@pytest.mark.parametrize(
    ("word", "number"),
    [("1e6", 10**6), ("1M", 10**6), ("2.5k", 2_500), ("1_000_000", 10**6), ("1,000", 1_000), ("-3", -3), ("1.5e3", 1_500)],
)
def test_whole_numbers_are_understood_as_people_write_them(word: str, number: int) -> None:
    assert whole_number(word) == number


@pytest.mark.parametrize(
    "word", ["1.5", "", "k", "e6", "1e", "nan", "inf", "1e-1", "1x", "0x10", "1e9999", "1 M", "--", "."]
)
def test_what_is_no_whole_number_is_refused(word: str) -> None:
    with pytest.raises(ValueError, match="is not a whole number"):
        whole_number(word)


@given(st.integers(-(10**15), 10**15))
def test_digits_mean_what_they_always_do(number: int) -> None:
    assert whole_number(str(number)) == whole_number(f"{number:,}") == whole_number(f"{number:_}") == number
