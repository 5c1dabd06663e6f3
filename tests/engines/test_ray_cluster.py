"""A cluster's nodes and what runs on them; addresses that are no cluster."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from engines.ray_clusters import cluster

from asyncrl.cluster.connection import check_nodes, connect, nodes
from asyncrl.errors import UsageError

pytest.importorskip("ray")


@pytest.fixture(scope="module")
def _connected() -> Iterator[None]:
    with cluster(1, 1) as ray, connect(ray.address):
        yield


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


@pytest.mark.usefixtures("_connected")
def test_the_nodes_of_a_cluster_are_listed() -> None:
    assert [node.cpus for node in nodes()] == [1, 1]


@pytest.mark.usefixtures("_connected")
def test_every_node_needs_the_same_version() -> None:
    check_nodes()
    with pytest.raises(UsageError, match=r"has asyncrl 0\.1\.0, but this machine has 99\.0: install the same"):
        check_nodes("99.0")
