"""What on this machine keeps `asyncrl` from running, or from running well, and what to do about it."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch
from packaging.requirements import Requirement

from asyncrl.common import signing
from asyncrl.common.hardware import busy_core_seconds, cores, usable_cores
from asyncrl.engines.shared_memory import available_memory

__all__ = ["Facts", "Remedy", "facts", "remedies"]

_GIB = 2**30
_MIN_MEMORY, _MIN_DISK = 2.0, 5.0
"""Free GiB below which there is a warning."""
_MIN_FILES = 1024
_LOOK = 0.3
"""Seconds in which busy cores are counted."""


@dataclass(frozen=True)
class Remedy:
    """One thing to do."""

    sentence: str
    command: str


@dataclass(frozen=True)
class Facts:
    """What remedies depend on."""

    cores: int
    """Cores that this process may run on."""
    usable: float
    """Of these, what the container's limit leaves."""
    busy: float
    """Cores that other programs keep busy now."""
    memory: float
    """Free memory, GiB."""
    disk: float
    """Free space in the working directory, GiB."""
    open_files: int | None
    """Limit on open files; None where there is none."""
    can_write: bool
    """Run folders can be made in the working directory."""
    can_sign: bool
    """A key that signs runs can be stored."""
    torch_cuda: str | None
    """The CUDA version that torch was built for; None for a build without CUDA."""
    torch_sees_gpu: bool
    has_gpu: bool
    """The machine has an NVIDIA GPU, or at least its driver."""
    unmet: tuple[str, ...] = ()
    """Required packages that are missing or too old, with the version that is needed."""


def facts(package: str) -> Facts:
    """Look at this machine. Takes a third of a second, in which busy cores are counted."""
    began, before = time.perf_counter(), busy_core_seconds()
    time.sleep(_LOOK)
    return Facts(
        cores=cores(),
        usable=usable_cores(),
        busy=(busy_core_seconds() - before) / (time.perf_counter() - began),
        memory=available_memory() / _GIB,
        disk=shutil.disk_usage(".").free / _GIB,
        open_files=_open_files(),
        can_write=os.access(".", os.W_OK | os.X_OK),
        can_sign=signing.can_sign(),
        torch_cuda=torch.version.cuda,
        torch_sees_gpu=torch.cuda.is_available(),
        has_gpu=Path("/dev/nvidia0").exists() or shutil.which("nvidia-smi") is not None,
        unmet=tuple(_unmet(package)),
    )


def remedies(found: Facts) -> Iterator[Remedy]:
    """What to do, the most important first; nothing if all is well."""
    if found.unmet:
        words = " ".join(f"'{requirement}'" for requirement in found.unmet)
        yield Remedy("Required packages are missing or too old.", f"pip install {words}")
    if not found.can_write:
        yield Remedy("Run folders cannot be made in this folder.", "asyncrl train a3c CartPole-v1 --run-dir DIR")
    if found.has_gpu and found.torch_cuda is None:
        yield Remedy(
            "The machine has an NVIDIA GPU, but torch was built without CUDA (pytorch.org/get-started lists the builds).",
            "pip install --force-reinstall torch",
        )
    elif found.has_gpu and not found.torch_sees_gpu:
        yield Remedy(
            f"torch was built for CUDA {found.torch_cuda} but finds no GPU: its driver is missing or too old.", "nvidia-smi"
        )
    if found.memory < _MIN_MEMORY:
        yield Remedy(
            f"Only {found.memory:.1f} GiB of memory are free: stop other programs, or train with fewer environments.",
            "asyncrl train a3c CartPole-v1 --actors 1 --envs-per-actor 8",
        )
    if found.disk < _MIN_DISK:
        yield Remedy(f"Only {found.disk:.1f} GiB are free on this disk: remove old runs.", "du -sh runs/* | sort -h")
    if found.open_files is not None and found.open_files < _MIN_FILES:
        yield Remedy(
            f"At most {found.open_files} files may be open: runs with many actors need more.",
            f"ulimit -n {4 * _MIN_FILES}",
        )
    if found.busy > 0.5 * found.usable:
        yield Remedy(
            f"Other programs keep {found.busy:.1f} of the {found.usable:.3g} cores busy: training will be slower.",
            "ps aux --sort=-%cpu | head",
        )
    if found.usable < found.cores:
        yield Remedy(
            f"The container may use {found.usable:.3g} of the {found.cores} cores: allow more, or use fewer actors.",
            f"docker run --cpus {found.cores} …",
        )
    if not found.can_sign:
        yield Remedy(
            "The key that signs runs cannot be stored, so runs with your own code need --trust.",
            "export XDG_STATE_HOME=DIR",
        )


def _open_files() -> int | None:
    """The soft limit of this process."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return None if limit == resource.RLIM_INFINITY else limit


def _unmet(package: str) -> Iterator[str]:
    """The requirements of an installed package, without extras, that the installed versions do not meet."""
    try:
        requirements = map(Requirement, metadata.requires(package) or [])
    except metadata.PackageNotFoundError:
        return
    for requirement in requirements:
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            is_met = requirement.specifier.contains(metadata.version(requirement.name), prereleases=True)
        except metadata.PackageNotFoundError:
            is_met = False
        if not is_met:
            yield f"{requirement.name}{requirement.specifier}"
