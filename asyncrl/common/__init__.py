"""Shared by all packages: serialization, random streams, signals, child processes, validation and locks."""
