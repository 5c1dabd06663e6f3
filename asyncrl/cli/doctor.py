"""asyncrl doctor"""

from __future__ import annotations

import os
import platform
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata

import psutil
import torch
from packaging.requirements import Requirement

from asyncrl.cli.help import page_width, wrapped
from asyncrl.cli.machine_checks import Remedy, facts, remedies
from asyncrl.cli.options import parse
from asyncrl.cluster.connection import check_nodes, connect, nodes
from asyncrl.common.hardware import cores, has_bfloat16
from asyncrl.engines.shared_memory import available_memory
from asyncrl.version import __version__

_PACKAGE = "asyncrl"
_DEVELOPMENT = frozenset({"test"})
"""Extras that no command needs."""
_GIB = 2**30


@dataclass(frozen=True)
class Arguments:
    ray_address: str | None = None
    """Check this Ray cluster instead, and the version on each of its nodes: HOST:PORT, or auto for this machine's."""


def run(arguments: Sequence[str]) -> int:
    about = "Show this machine, the installed extras, and what to do."
    asked = parse(Arguments, "doctor", arguments, about, {"Options": ("ray_address",)})
    if asked.ray_address is not None:
        return _check_cluster(asked.ray_address)
    memory = psutil.virtual_memory()
    print(f"asyncrl {__version__}, Python {platform.python_version()}, {platform.platform()}")
    rows = {
        "cores": f"{cores()} of {os.cpu_count()}",
        "memory": f"{available_memory() / _GIB:.1f} of {memory.total / _GIB:.1f} GiB free",
        "torch": f"{torch.__version__}, {torch.backends.cpu.get_cpu_capability()}",
        "bfloat16": "yes (--precision auto uses it)" if has_bfloat16() else "no (--precision auto means fp32)",
        "GPU": torch.cuda.get_device_name() if torch.cuda.is_available() else "none found by torch",
    }
    print(*wrapped(rows | _extras()), sep="\n")
    print("", *_what_to_do(list(remedies(facts(_PACKAGE)))), sep="\n")
    return 0


def _check_cluster(address: str) -> int:
    """Show the nodes of a Ray cluster. Raises UsageError for what keeps runs from using one."""
    with connect(address):
        found = nodes()
        check_nodes()
    for node in found:
        gpus = f", GPUs: {node.gpus:.0f}" if node.gpus else ""
        here = ", this machine" if node.is_here else ""
        print(f"{node.host}: CPUs: {node.cpus:.0f}{gpus}, {node.store_bytes / _GIB:.1f} GiB for objects{here}")
    print(f"asyncrl {__version__} on every node; places for actors: {sum(node.cpus for node in found):.0f}")
    print(f"Try: asyncrl train a3c CartPole-v1 --engine ray --ray-address {address}")
    return 0


def _what_to_do(found: Sequence[Remedy]) -> Iterator[str]:
    """The end of the page: a numbered list of things to do, each with its command."""
    if not found:
        yield "Everything is in order. Try: asyncrl train a3c CartPole-v1"
        return
    yield "What to do:"
    for number, remedy in enumerate(found, 1):
        first, rest = f"{number}. ", "   "
        yield from textwrap.wrap(remedy.sentence, page_width(), initial_indent=first, subsequent_indent=rest)
        yield f"   {remedy.command}"


def _extras() -> dict[str, str]:
    """The installed and the missing packages of each extra."""
    try:
        extras = metadata.metadata(_PACKAGE).get_all("Provides-Extra") or []
    except metadata.PackageNotFoundError:
        return {"extras": "unknown: asyncrl is not installed (pip install -e .)"}
    return {extra: _packages(extra) for extra in extras if extra not in _DEVELOPMENT}


def _packages(extra: str) -> str:
    names = list(dict.fromkeys(_required(_PACKAGE, extra)))
    versions = {name: _version(name) for name in names}
    found = ", ".join(f"{name} {version}" for name, version in versions.items() if version is not None)
    missing = [name for name, version in versions.items() if version is None]
    if not missing:
        return found
    return f"{found + '; ' if found else ''}missing: pip install 'asyncrl[{extra}]'"


def _required(package: str, extra: str) -> Iterator[str]:
    """The packages that an extra of an installed package requires here; those of its extras instead of `name[extra]`."""
    try:
        requirements = map(Requirement, metadata.requires(package) or [])
    except metadata.PackageNotFoundError:
        return
    for requirement in requirements:
        marker = requirement.marker
        if marker is None or not marker.evaluate({"extra": extra}) or marker.evaluate({"extra": ""}):
            continue
        yield requirement.name
        for inner in requirement.extras:
            yield from _required(requirement.name, inner)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
