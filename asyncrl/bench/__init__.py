"""Throughput of each stage of a run on this machine, and of training as a whole; settings that are fast here."""

from asyncrl.bench.report import Report, bench
from asyncrl.bench.tuning import Tuning, tune

__all__ = ["Report", "Tuning", "bench", "tune"]
