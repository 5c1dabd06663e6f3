"""Capabilities of this machine's processors and GPU."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import psutil

__all__ = [
    "busy_core_seconds",
    "cores",
    "free_gpu_memory",
    "has_bfloat16",
    "processor_has_bfloat16",
    "usable_cores",
]

_GROUP = Path("/sys/fs/cgroup")


def cores() -> int:
    """Return the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def usable_cores() -> float:
    """The cores that this process may keep busy: `cores`, within the limit of its container."""
    limit = _container_limit()
    return cores() if limit is None else min(cores(), limit)


def busy_core_seconds() -> float:
    """Seconds that the usable cores have been busy, summed over them; only differences have a meaning.

    In a container with a processor limit, only the container's programs count; otherwise all programs on these cores.
    """
    if _container_limit() is not None:
        with contextlib.suppress(OSError, ValueError, KeyError):
            usage = dict(line.split() for line in (_GROUP / "cpu.stat").read_text().splitlines())
            return int(usage["usage_usec"]) / 1e6
    each = psutil.cpu_times(percpu=True)
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(len(each))
    return float(sum(sum(each[core]) - _idle(each[core]) for core in allowed if core < len(each)))


def _idle(times: Any) -> float:
    """Seconds in which a core did nothing; `guest` is part of `user`, and is counted there."""
    return float(times.idle + sum(getattr(times, name, 0.0) for name in ("iowait", "guest", "guest_nice")))


def _container_limit() -> float | None:
    """Cores' worth of processor time that the container may use; None without a limit."""
    with contextlib.suppress(OSError, ValueError):  # "max", or no container
        quota, period = (_GROUP / "cpu.max").read_text().split()
        return int(quota) / int(period)
    return None


def free_gpu_memory() -> int:
    """Return the bytes that are free on the GPU."""
    import torch

    free, _ = torch.cuda.mem_get_info()
    return int(free)


def has_bfloat16() -> bool:
    """Return whether the GPU, or the processor if there is none, has fast bfloat16 arithmetic."""
    import torch

    return bool(torch.cuda.is_bf16_supported()) if torch.cuda.is_available() else processor_has_bfloat16()


def processor_has_bfloat16() -> bool:
    """Return whether the processor has bfloat16 arithmetic; emulating it takes several times as long as float32."""
    import torch

    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
