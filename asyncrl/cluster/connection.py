"""Ray: a connection to a cluster, and its nodes. Only `cluster/` and `engines/ray_*.py` import Ray.

Anyone who can reach a cluster's ports can run code on it. A Ray that is started here listens on 127.0.0.1 only and asks
for a token; a cluster is reached with the token that Ray finds (RAY_AUTH_TOKEN, or ~/.ray/auth_token).
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asyncrl.common.child_process import working_directory
from asyncrl.common.hardware import cores
from asyncrl.errors import UsageError
from asyncrl.version import __version__

__all__ = ["Node", "WorkerSetup", "check_nodes", "connect", "first_line", "import_ray", "nodes"]

_ANSWER_SECONDS = 10.0
"""An address that has not answered after this is reported."""
_NODE_SECONDS = 120.0
"""A node has this long to start a process that says which version it has."""
_MIN_STORE = 100 * 2**20
"""Ray starts no smaller object store than about 75 MB."""


@dataclass(frozen=True)
class Node:
    """A node of the cluster."""

    id: str
    host: str
    cpus: float
    gpus: float
    store_bytes: int
    """Size of its object store."""
    is_here: bool
    """Whether this process is connected to it."""


def import_ray() -> Any:
    """Return the module `ray`. Raises UsageError if it is not installed."""
    # Ray reads it on import and warns without it: tasks that ask for no GPU see none.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")
    try:
        with warnings.catch_warnings(action="ignore"):
            import ray
    except ModuleNotFoundError as error:
        raise UsageError(f"--engine ray needs {error.name}, which is not installed: pip install 'asyncrl[ray]'") from None
    return ray


@contextlib.contextmanager
def connect(address: str | None = None, *, cpus: int | None = None, store_bytes: int | None = None) -> Iterator[None]:
    """Use a Ray cluster during the block, unless this process is connected to one already: then that one is used.

    Args:
        address: `HOST:PORT` of a running cluster, of which this machine is a node; `auto` for the one that RAY_ADDRESS
            names or that runs on this machine; None starts a separate Ray on this machine.
        cpus: Places for actors and tasks in a Ray that is started. Default: the cores.
        store_bytes: Size of the object store of a Ray that is started. Default: Ray's, a third of the memory.

    Raises UsageError if Ray is not installed or the address does not answer.
    """
    ray = import_ray()
    if ray.is_initialized():
        yield
        return
    with _signal_handlers_kept(ray):
        if address is None:
            _start(ray, cpus or cores(), store_bytes)
        else:
            _join(ray, address)
    worker = ray._private.worker
    before = worker.print_to_stdstream
    try:
        # Ray prints a paragraph for each process that dies; the code waiting for that process reports it in one line.
        worker.print_to_stdstream = lambda *message, **options: None
        yield
    finally:
        ray.shutdown()
        worker.print_to_stdstream = before


_QUIET: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}


def _start(ray: Any, cpus: int, store_bytes: int | None) -> None:
    """Start a Ray on this machine, reachable from this machine only and with a token only."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if not _has_token():
        _make_token()
    constants = ray._private.ray_constants
    before = constants.ENABLE_RAY_CLUSTER
    constants.ENABLE_RAY_CLUSTER = False  # otherwise Ray takes the machine's outer address instead of 127.0.0.1
    try:
        ray.init(
            "local",
            num_cpus=cpus,
            include_dashboard=False,
            object_store_memory=None if store_bytes is None else max(store_bytes, _MIN_STORE),
            _node_ip_address="127.0.0.1",
            **_QUIET,
        )
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise UsageError(f"Ray could not be started on this machine: {first_line(error)}") from None
    finally:
        constants.ENABLE_RAY_CLUSTER = before


def _has_token() -> bool:
    """Whether Ray finds a token, or is configured without one."""
    names = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
    is_off = os.environ.get("RAY_AUTH_MODE", "token").lower() != "token"
    return is_off or any(name in os.environ for name in names) or _token_path().exists()


def _token_path() -> Path:
    return Path.home() / ".ray" / "auth_token"


def _make_token() -> None:
    """Make the file that Ray writes the token to, readable by this user only."""
    path = _token_path()
    with contextlib.suppress(OSError):  # Ray says what is wrong
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)


def _join(ray: Any, address: str) -> None:
    """Connect to a running cluster."""
    if "://" in address:
        raise UsageError(
            f"--ray-address {address}: Ray Client is not supported; run asyncrl on a node of the cluster, or submit it "
            "there with `ray job submit`, with --ray-address auto"
        )
    if address != "auto":
        _check_address(address)
    try:
        ray.init(address, **_QUIET)
    except ConnectionError as error:
        hint = "no Ray runs on this machine; start one with `ray start --head`, or give HOST:PORT"
        if "not find" not in str(error):
            hint = (
                "the connection is refused; is this the port of `ray start --head` (6379), and does RAY_AUTH_TOKEN or "
                "~/.ray/auth_token hold the cluster's token?"
            )
        raise UsageError(f"--ray-address {address}: {hint}") from None
    except ray.exceptions.AuthenticationError as error:
        raise UsageError(
            f"--ray-address {address}: the cluster refuses this token ({first_line(error)}); set RAY_AUTH_TOKEN, or "
            "RAY_AUTH_TOKEN_PATH"
        ) from None
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise UsageError(f"--ray-address {address}: {first_line(error)}") from None


def _check_address(address: str) -> None:
    """Raise UsageError unless a gRPC server, as Ray's, answers there: Ray itself waits for minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise UsageError(f"--ray-address {address}: expected HOST:PORT, such as 10.0.0.1:6379, or auto")
    hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_SECONDS) as connection:
            connection.sendall(hello)
            answer = connection.recv(4)
    except OSError as error:
        reason = "no answer" if isinstance(error, TimeoutError) else (error.strerror or str(error)).lower()
        raise UsageError(
            f"--ray-address {address}: {reason} within {_ANSWER_SECONDS:.0f} s; is the cluster running (ray status)?"
        ) from None
    if answer[3:] != b"\x04":  # the type of the frame SETTINGS, which HTTP/2 begins with
        raise UsageError(
            f"--ray-address {address}: what answers there is not Ray; give the port of `ray start --head`, 6379"
        )


@contextlib.contextmanager
def _signal_handlers_kept(ray: Any) -> Iterator[None]:
    """Keep Ray's handlers of signals away: at SIGTERM they call `sys.exit`."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    utils = ray._private.utils
    set_handler = utils.set_sigterm_handler
    utils.set_sigterm_handler = lambda handler: None
    try:
        yield
    finally:
        utils.set_sigterm_handler = set_handler
        for number, handler in before.items():
            signal.signal(number, handler)


def nodes() -> list[Node]:
    """The nodes of the cluster that are alive, the one that this process is connected to first."""
    ray = import_ray()
    here = ray.get_runtime_context().get_node_id()
    found = []
    for node in ray.nodes():
        if node["Alive"]:
            resources = node["Resources"]
            found.append(
                Node(
                    id=node["NodeID"],
                    host=node["NodeManagerAddress"],
                    cpus=resources.get("CPU", 0.0),
                    gpus=resources.get("GPU", 0.0),
                    store_bytes=int(resources.get("object_store_memory", 0)),
                    is_here=node["NodeID"] == here,
                )
            )
    return sorted(found, key=lambda node: not node.is_here)


def check_nodes(version: str = __version__) -> None:
    """Raise UsageError unless every node has this package in this version."""
    ray = import_ray()

    def find() -> str | None:  # sent as code: a node without the package must be able to run it
        try:
            from asyncrl.version import __version__ as found
        except ImportError:
            return None
        return found

    pinned = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
    others = [node for node in nodes() if not node.is_here or version != __version__]
    tasks = [ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=pinned(x.id, soft=False))(find) for x in others]
    for node, answer in zip(others, [task.remote() for task in tasks], strict=True):
        try:
            found = ray.get(answer, timeout=_NODE_SECONDS)
        except ray.exceptions.RayError as error:
            if any(one.id == node.id for one in nodes()):
                raise UsageError(f"node {node.host} does not run tasks of this cluster: {first_line(error)}") from None
            continue  # it has left
        if found != version:
            has = "does not have asyncrl" if found is None else f"has asyncrl {found}"
            raise UsageError(
                f"node {node.host} {has}, but this machine has {version}: install the same version on every node"
            )


@dataclass(frozen=True)
class WorkerSetup:
    """Search path, working directory and code of this process, for processes on other nodes."""

    search_path: Sequence[str]
    working_directory: str | None
    code: bytes
    """Code that cannot be imported, for `sources.install`; b"" if there is none."""

    @classmethod
    def here(cls, code: bytes = b"") -> WorkerSetup:
        """The setup of this process."""
        return cls(tuple(sys.path), working_directory(), code)

    def enter(self) -> None:
        """Search modules where that process does, after this process's own places, and work in the same folder."""
        sys.path += [place for place in self.search_path if place not in sys.path]
        if self.working_directory is not None:
            with contextlib.suppress(OSError):  # another machine may not have it
                os.chdir(self.working_directory)


def first_line(error: BaseException) -> str:
    """The first line of a message, without a full stop."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).rstrip(".")
