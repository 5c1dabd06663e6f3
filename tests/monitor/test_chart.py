"""Charts in text: curves, marks and the labels of their axes."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from asyncrl.monitor.chart import Points, chart, short

VALUES = st.floats(-1e12, 1e12)


def drawn(line: Points, marks: Points = (), width: int = 40, height: int = 5) -> list[str]:
    return [text.plain for text in chart(line, marks, width, height, line_style="cyan", mark_style="yellow")]


def test_a_rising_line_goes_from_the_lower_left_to_the_upper_right() -> None:
    rows = drawn([(step, step / 100) for step in range(1001)])
    first, *_, last, axis = rows
    assert (first[:9], last[:9]) == ("      10┤", "       0┤")
    assert [row[9:].strip("⠀") != "" for row in rows[:-1]] == [True] * 5
    assert first[9] == "⠀" != first[-1]
    assert last[9] != "⠀" == last[-1]
    assert axis.split() == ["0", "500", "1,000", "steps"]


def test_marks_stand_at_their_step_and_value() -> None:
    rows = drawn([(0, 0.0), (100, 10.0)], marks=[(50, 10.0), (100, 0.0)], width=29)
    assert rows[0][9 + 10] == "●" == rows[4][9 + 19]
    assert "".join(rows).count("●") == 2


def test_a_resumed_part_begins_at_its_own_step() -> None:
    assert drawn([(900, 1.0), (1000, 2.0)])[-1].split() == ["900", "950", "1,000", "steps"]


@given(
    st.lists(st.tuples(st.integers(0, 10**9), VALUES), max_size=30).map(sorted),
    st.lists(st.tuples(st.integers(0, 10**9), VALUES), max_size=5).map(sorted),
    st.integers(12, 120),
    st.integers(1, 12),
)
def test_every_row_is_as_wide_as_asked(line: Points, marks: Points, width: int, height: int) -> None:
    rows = drawn(line, marks, width, height)
    assert [cell_len(row) for row in rows] == [width] * (height + 1)


def test_numbers_that_are_not_finite_are_left_out() -> None:
    assert drawn([(0, 1.0), (1, math.nan), (2, math.inf), (3, 2.0)]) == drawn([(0, 1.0), (3, 2.0)])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *[(0, "0"), (12.5, "12.5"), (1200, "1,200"), (49_750, "49.8k"), (1.5e6, "1.5M"), (-0.25, "-0.25"), (2e9, "2G")],
        *[(999_400, "999k"), (999_936, "1M"), (999_800_000, "1G")],
    ],
)
def test_a_label_is_short(value: float, text: str) -> None:
    assert short(value) == text


@given(st.floats(-1e300, 1e300))
def test_no_label_is_longer_than_eight_characters(value: float) -> None:
    assert len(short(value)) <= 8
