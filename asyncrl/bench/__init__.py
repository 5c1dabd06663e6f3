"""Throughput of each stage of a run on this machine, and of training as a whole."""

from asyncrl.bench.report import Report, bench

__all__ = ["Report", "bench"]
