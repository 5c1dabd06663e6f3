"""Starts the fork server before the imports of `asyncrl train`, for which it would otherwise wait."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

from asyncrl.cli.options import HELP, remove_option
from asyncrl.common import fork_pool
from asyncrl.common.child_process import HAS_WORKERS
from asyncrl.common.hardware import cores

__all__ = ["begin", "takes_processes"]


def begin(words: Sequence[str]) -> None:
    """Start the fork server that `asyncrl train WORDS` will probably need: its imports take as long as our own.

    After a wrong guess the run starts the server itself, or ends it.
    """
    named = [*takewhile(lambda word: not word.startswith("-"), words)]
    if named and not set(HELP) & set(words) and takes_processes(words, "auto", named[-1]):
        fork_pool.prepare()


def takes_processes(words: Sequence[str], engine: str, env: str) -> bool:
    """Whether actors will probably be processes. `engine` holds unless the command line names one."""
    if not HAS_WORKERS:
        return False
    engine = [engine, *remove_option([*words], "--engine")][-1]
    if engine != "auto":
        return engine in ("processes", "hogwild")
    return cores() > 1 and _shows_pictures(env)


def _shows_pictures(env: str) -> bool:
    from asyncrl.envs.registry import family_of  # it takes a fifth of a second

    return family_of(env).shows_pictures
