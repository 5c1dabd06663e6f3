"""Throughput of each stage of a run on this machine, and of training as a whole; settings that are fast here."""

from asyncrl.bench.automatic import found_actors
from asyncrl.bench.report import Report, bench
from asyncrl.bench.tuning import Tuning, tune

__all__ = ["Report", "Tuning", "bench", "found_actors", "tune"]
