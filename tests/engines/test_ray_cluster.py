"""Addresses at which no cluster answers."""

from __future__ import annotations

import os
import signal
import socket
from typing import Any

import pytest
from interrupted_runs import handled_by

from asyncrl.cluster.connection import connect, import_ray
from asyncrl.common.signals import Terminated, raise_interrupts
from asyncrl.errors import UsageError

pytest.importorskip("ray")


def test_an_address_where_nothing_listens_is_refused() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(UsageError, match=rf"--ray-address {address}: connection refused .* is the cluster running"):
            connect(address).__enter__()


def test_a_silent_address_is_refused_after_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncrl.cluster.connection._ANSWER_SECONDS", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(UsageError, match="no answer within"):
            connect(f"127.0.0.1:{silent.getsockname()[1]}").__enter__()


@pytest.mark.parametrize(("address", "reason"), [("nowhere", "expected HOST:PORT"), ("ray://a:1", "Ray Client")])
def test_what_is_no_address_is_refused(address: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        connect(address).__enter__()


def test_a_signal_while_ray_starts_is_left_to_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray._private import node

    begin = node.Node.__init__

    def begin_and_be_stopped(self: Any, *arguments: Any, **options: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        begin(self, *arguments, **options)

    monkeypatch.setattr(node.Node, "__init__", begin_and_be_stopped)
    with handled_by(signal.SIG_DFL), raise_interrupts(), pytest.raises(Terminated):
        connect(cpus=1).__enter__()
    assert not import_ray().is_initialized()
