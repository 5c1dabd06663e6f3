"""Warnings are hidden in several threads at once, and shown again."""

from __future__ import annotations

import contextlib
import warnings

from asyncrl.common.hidden_warnings import hidden_warnings


def test_filters_are_restored_however_the_blocks_of_threads_overlap() -> None:
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        one, other = contextlib.ExitStack(), contextlib.ExitStack()
        one.enter_context(hidden_warnings())
        other.enter_context(hidden_warnings())
        one.close()  # before the other one, as another thread may
        warnings.warn("hidden", stacklevel=1)
        other.close()
        warnings.warn("shown", stacklevel=1)
    assert [str(warning.message) for warning in shown] == ["shown"]
