"""Options: how values may be written, what is refused, and the help."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncrl.cli.help import print_help
from asyncrl.cli.options import options_of, read_values, whole_number, with_values
from asyncrl.errors import UsageError


@pytest.mark.parametrize(
    ("word", "number"),
    [("1e6", 10**6), ("1M", 10**6), ("2.5k", 2_500), ("1_000_000", 10**6), ("1,000", 1_000), ("-3", -3), ("1.5e3", 1_500)],
)
def test_whole_numbers_are_understood_as_people_write_them(word: str, number: int) -> None:
    assert whole_number(word) == number


@pytest.mark.parametrize(
    "word", ["1.5", "", "k", "e6", "1e", "nan", "inf", "1e-1", "1x", "0x10", "1e9999", "1 M", "--", "."]
)
def test_other_words_are_not_whole_numbers(word: str) -> None:
    with pytest.raises(ValueError, match="is not a whole number"):
        whole_number(word)


@given(st.integers(-(10**15), 10**15))
def test_separators_do_not_change_a_number(number: int) -> None:
    assert whole_number(str(number)) == whole_number(f"{number:,}") == whole_number(f"{number:_}") == number


class Color(Enum):
    RED = "red"
    """as in sunsets"""
    BLUE = "blue"


@dataclass(frozen=True)
class Inner:
    sizes: tuple[int, ...] = (1, 2)
    """Sizes. Default: two of them."""
    color: Color = Color.RED
    """Color of the thing."""


@dataclass(frozen=True)
class Outer:
    name: str
    """Name of the thing."""
    inner: Inner = field(default_factory=Inner)
    rate: float = 0.5
    """Rate; longer text. A second sentence (Mnih et al. 2016)."""
    limit: int | None = None
    """Most steps. Default: no limit."""
    video: bool = True
    """Record a video."""


@pytest.mark.parametrize(
    ("words", "values"),
    [
        ("a --sizes 3 4 --rate -1", {"name": "a", "sizes": (3, 4), "rate": -1.0}),
        ("--no-video a", {"video": False, "name": "a"}),
        ("--video False --limit 1e3 a", {"video": False, "limit": 1000, "name": "a"}),
        ("--limit=None --color=blue", {"limit": None, "color": Color.BLUE}),
    ],
)
def test_words_are_read_as_values_of_the_fields(words: str, values: dict[str, object]) -> None:
    assert read_values(options_of(Outer), words.split()) == values


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--color bleu", "--color: 'bleu' is not one of red, blue; did you mean 'blue'?"),
        ("--color", "--color needs a value: red, blue"),
        ("--rat 3", "unknown option --rat; did you mean '--rate'?"),
        ("--rate fast", "--rate: 'fast' is not a number"),
        ("--sizes 3 x", "--sizes: 'x' is not a whole number"),
        ("a b", "unexpected argument 'b'; options begin with --"),
        ("--video=4", "--video is a switch and takes no value: write --video or --no-video"),
    ],
)
def test_a_word_that_cannot_be_read_is_refused_in_one_sentence(words: str, sentence: str) -> None:
    with pytest.raises(UsageError) as refused:
        read_values(options_of(Outer), words.split())
    assert str(refused.value) == sentence


def test_values_reach_nested_dataclasses() -> None:
    assert with_values(Outer("a"), {"sizes": (7,), "limit": 3}) == Outer("a", Inner((7,)), limit=3)


def test_the_short_help_shows_the_first_sentence_and_the_whole_help_all(capsys: pytest.CaptureFixture[str]) -> None:
    options = options_of(Outer)
    print_help(["asyncrl thing NAME"], "About it.", options, {"Basic": ("rate", "limit", "color")}, show_all=False)
    short = capsys.readouterr().out
    assert "  --rate X              Rate; longer text (default: 0.5)\n" in short
    assert "  --limit N             Most steps (default: no limit)\n" in short
    assert "--help-all shows 2 more options." in short
    print_help(["asyncrl thing NAME"], "About it.", options, {}, show_all=True)
    whole = capsys.readouterr().out
    assert "A second sentence (Mnih et al. 2016)" in " ".join(whole.split())
    assert "  --[no-]video          Record a video (default: on)\n" in whole
    assert "- red: as in sunsets\n" in whole


def test_a_command_line_is_read_without_the_source_of_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    """Finding the docstrings in it is slow, and only the help shows them."""

    @dataclass
    class Arguments:
        steps: int = 1
        """How many."""

    monkeypatch.setattr("inspect.getsource", None)
    options = options_of(Arguments)
    assert read_values(options, ["--steps", "2"]) == {"steps": 2}
    monkeypatch.undo()
    assert [option.help for option in options] == ["How many."]
