"""How fast this machine is at each stage of a run, and how close the whole comes to that."""

from asyncrl.bench.report import Report, bench

__all__ = ["Report", "bench"]
