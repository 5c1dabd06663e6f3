"""Stop signals become a request to stop, and Ctrl-C is distinguished from other KeyboardInterrupts."""

from __future__ import annotations

import itertools
import signal
import threading
from typing import Any

import pytest

from asyncrl.common.signals import Terminated, defer_interrupts, handle_stop_signals, is_from_keyboard, raise_interrupts

STOPPING = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


def caught(raise_it: Any) -> BaseException:
    try:
        raise_it()
    except BaseException as problem:
        return problem
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize("number", STOPPING)
def test_each_signal_asks_to_stop_and_is_handled_as_before_afterwards(number: signal.Signals) -> None:
    before = [signal.getsignal(n) for n in STOPPING]
    with handle_stop_signals() as stop:
        assert not stop
        signal.raise_signal(number)
        assert stop.signal == number
    assert [signal.getsignal(n) for n in STOPPING] == before


@pytest.mark.parametrize(("first", "later"), list(itertools.permutations(STOPPING, 2)))
def test_the_first_signal_says_how_the_run_ends(first: signal.Signals, later: signal.Signals) -> None:
    with handle_stop_signals() as stop:
        signal.raise_signal(first)
        signal.raise_signal(later)
        assert stop.signal == first


def test_a_hangup_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with handle_stop_signals() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert not stop
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_handler_that_an_environment_puts_in_place_does_not_keep_the_run_from_stopping() -> None:
    with handle_stop_signals() as stop:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        stop.install_handlers()
        signal.raise_signal(signal.SIGTERM)
        assert stop.signal == signal.SIGTERM


def test_the_second_interrupt_is_from_the_keyboard() -> None:
    with handle_stop_signals() as stop:
        signal.raise_signal(signal.SIGINT)
        assert is_from_keyboard(caught(lambda: signal.raise_signal(signal.SIGINT)))
        assert stop.signal == signal.SIGINT


def test_the_first_interrupt_after_another_signal_waits_for_the_update() -> None:
    with handle_stop_signals() as stop:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
            signal.raise_signal(number)
        assert is_from_keyboard(caught(lambda: signal.raise_signal(signal.SIGINT)))
        assert stop.signal == signal.SIGTERM


def raise_keyboard_interrupt() -> None:
    raise KeyboardInterrupt


def test_code_that_raises_keyboard_interrupt_is_not_the_keyboard() -> None:
    with handle_stop_signals():
        assert not is_from_keyboard(caught(raise_keyboard_interrupt))
    with raise_interrupts():
        assert not is_from_keyboard(caught(raise_keyboard_interrupt))
        assert is_from_keyboard(caught(lambda: signal.raise_signal(signal.SIGINT)))
    results: list[bool] = []
    thread = threading.Thread(target=lambda: results.append(is_from_keyboard(caught(raise_keyboard_interrupt))))
    thread.start()
    thread.join()
    assert results == [False]


def test_a_signal_that_the_caller_ignores_stays_ignored() -> None:
    chosen = {signal.SIGHUP: signal.SIG_IGN, signal.SIGTERM: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in chosen.items()}  # Ray leaves a handler behind
    try:
        with raise_interrupts():
            signal.raise_signal(signal.SIGHUP)
            assert isinstance(caught(lambda: signal.raise_signal(signal.SIGTERM)), Terminated)
        assert {number: signal.getsignal(number) for number in chosen} == chosen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_where_python_itself_listens_the_keyboard_is_assumed() -> None:
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert is_from_keyboard(caught(raise_keyboard_interrupt))


def test_an_interrupt_that_is_held_back_comes_at_the_end() -> None:
    def importing() -> None:
        with defer_interrupts():
            signal.raise_signal(signal.SIGINT)
            done.append("imported")

    done: list[str] = []
    assert is_from_keyboard(caught(importing))
    assert done == ["imported"]
