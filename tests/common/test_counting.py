"""Numbers of things in messages."""

from __future__ import annotations

from asyncrl.common.counting import counted


def test_one_thing_has_no_plural() -> None:
    assert [counted(n, "episode") for n in (0, 1, 2, 1_000)] == ["0 episodes", "1 episode", "2 episodes", "1,000 episodes"]
