"""Bots: scripted players that provide experience and exploration.

A bot is any callable ``(observation, info) -> action``, such as a `ScriptedBot`. Actions are the environment's own, and
so are the numbers of observations, which are not standardized. Their form is that of `Spaces.unpacked`: images have their
channels first, floating-point numbers are float32, frames are stacked, and a Dict or Tuple is one dict of all its parts by
dotted name (``arm.left``; ``0`` in a Tuple). An action mask, int8 [Σ choices], is always in the info as `action_mask`. Each
episode has a new bot.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import math
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from asyncrl.common.randomness import Stream, uniform
from asyncrl.common.signals import is_from_keyboard
from asyncrl.common.validation import within
from asyncrl.envs.infos import info_of
from asyncrl.envs.spaces import Spaces
from asyncrl.errors import BotFault, UsageError, suggestions

__all__ = ["Bot", "BotOptions", "BotPlayer", "BotRoster", "ScriptedBot", "open_bot"]

Bot = Callable[[Any, dict[str, Any]], Any]


class ScriptedBot:
    """Plays a list of actions, then `fallback`."""

    def __init__(self, actions: Sequence[Any], fallback: Any) -> None:
        self._actions, self._fallback = iter(actions), fallback

    def __call__(self, observation: np.ndarray, info: dict[str, Any]) -> Any:
        return next(self._actions, self._fallback)


@dataclass(frozen=True)
class BotOptions:
    """Options of a bot that plays some of the episodes (algorithms with a replay buffer)."""

    bot: str | None = None
    """Function that returns a bot: FILE.py:NAME or MODULE:NAME."""
    bot_share: float = 0.0
    """Fraction of the episodes that the bot plays; below 1."""
    bot_prefill: int = 0
    """Environment steps at the beginning of the run that the bot plays."""
    bot_explores: bool = False
    """Take the bot's action instead of a random one when exploring."""

    @property
    def code(self) -> tuple[str, ...]:
        """The bot's name, if it is given as MODULE:NAME."""
        return () if self.bot is None or ".py:" in self.bot else (self.bot,)

    def check(self) -> None:
        """Raise UsageError for options that are invalid or have no effect. Runs the bot's file."""
        if not 0 <= self.bot_share < 1:
            raise UsageError(f"--bot-share must be 0 or more and below 1, not {self.bot_share:g}")
        within(self, 0, math.inf, "bot_prefill")
        is_used = self.bot_share > 0 or self.bot_prefill > 0 or self.bot_explores
        if self.bot is None and is_used:
            raise UsageError("--bot-share, --bot-prefill and --bot-explores need a bot; add --bot FILE.py:NAME")
        if self.bot is not None:
            if not is_used:
                raise UsageError(f"--bot {self.bot} has no effect; add --bot-share, --bot-prefill or --bot-explores")
            open_bot(self.bot)


def open_bot(place: str) -> Callable[[], Bot]:
    """Import the function that returns a new bot, from ``FILE.py:NAME`` or ``MODULE:NAME``.

    Raises UsageError if it does not exist, and BotFault if its module raises. The returned function raises BotFault
    if it fails or its result is not callable.
    """
    file, colon, name = place.rpartition(":")
    if not colon or not name.isidentifier():
        raise UsageError(f"--bot must be FILE.py:NAME or MODULE:NAME, not {place!r}")
    if file.endswith(".py") and not Path(file).is_file():
        raise UsageError(f"--bot {place}: there is no file {file}")
    try:
        module = _from_file(Path(file)) if file.endswith(".py") else importlib.import_module(file)
    except ImportError as problem:
        raise UsageError(f"--bot {place}: {problem}") from None
    except BaseException as problem:
        raise _fault_of(problem, place) from problem
    if not hasattr(module, name):
        raise UsageError(f"--bot {place}: {file} has no {name!r}{suggestions(name, vars(module))}")
    make = getattr(module, name)
    if not callable(make):
        raise UsageError(f"--bot {place}: {name} must be a function that returns a bot, not {make!r}")

    _check_takes_nothing(make, name, place)

    def make_checked() -> Bot:
        try:
            bot = make()
        except BaseException as problem:
            raise _fault_of(problem, place) from problem
        if not callable(bot):
            raise BotFault(f"--bot {place} returned {bot!r}; a bot must be a function of observation and info")
        made: Bot = bot
        return made

    return make_checked


def _check_takes_nothing(make: Callable[..., Any], name: str, place: str) -> None:
    """Raise UsageError for a function that needs arguments, which may be the bot itself."""
    try:
        signature = inspect.signature(make)
    except ValueError:  # a builtin without a signature
        return
    try:
        signature.bind()
    except TypeError:
        raise UsageError(
            f"--bot {place}: {name}{signature} needs arguments; --bot names a function without arguments that returns a "
            f"bot: def make(): return {name}"
        ) from None


def _from_file(path: Path) -> ModuleType:
    name = f"asyncrl_bot_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _fault_of(problem: BaseException, place: str) -> BotFault:
    """Return a fault such as `raised ValueError: … (bot.py, line 7)`, with the innermost line. Re-raises Ctrl-C."""
    if is_from_keyboard(problem):
        raise problem
    frame = traceback.extract_tb(problem.__traceback__)[-1]
    raised = ": ".join(filter(None, [type(problem).__name__, str(problem)]))
    return BotFault(f"--bot {place} raised {raised} ({frame.filename}, line {frame.lineno})")


class BotPlayer:
    """A bot as an `episodes.Player` of one environment."""

    def __init__(self, place: str, spaces: Spaces) -> None:
        self._place, self._spaces = place, spaces
        self._make = open_bot(place)

    def __call__(self, observation: np.ndarray, info: dict[str, Any], begins: bool) -> np.ndarray:
        if begins:
            self._bot = self._make()
        return _action_of(self._bot, self._place, self._spaces, observation, info, env=0)[None]


class BotRoster:
    """The bots of one actor's B environments, some of which play."""

    def __init__(self, options: BotOptions, spaces: Spaces, seed: int, actor: int, envs: int) -> None:
        assert options.bot is not None
        self._options, self._spaces, self._address = options, spaces, (seed, actor)
        self._make = open_bot(options.bot)
        self._bots: list[Bot] = [self._make() for _ in range(envs)]
        self._playing = np.zeros(envs, dtype=bool)

    def begin_episodes(self, begins: np.ndarray, step: int, address: tuple[int, int]) -> None:
        """Start new bots where an episode `begins` [B] bool, and draw whether they play it.

        `step` is the run's environment step; `address` is the rollout's number and the step in it, which seed the draw.
        """
        if not begins.any():
            return
        seed, actor = self._address
        draws = uniform(seed, Stream.BOT, len(begins), actor, *address)
        share = 1.0 if step < self._options.bot_prefill else self._options.bot_share
        self._playing = np.where(begins, draws < share, self._playing)
        for env in np.flatnonzero(begins):
            self._bots[env] = self._make()

    def act(self, action: np.ndarray, explored: np.ndarray, observation: np.ndarray, infos: dict[str, Any]) -> np.ndarray:
        """Return the actions to take [B, …]: the bots' where they play, else the policy's `action` [B, …].

        `explored` [B] bool marks random actions, which `bot_explores` replaces. Every bot is called at every step,
        whether it plays or not, because it may remember observations.
        """
        chosen = action.copy()
        for env, bot in enumerate(self._bots):
            own = _action_of(bot, self._options.bot or "", self._spaces, observation, infos, env=env)
            if self._playing[env] or (self._options.bot_explores and explored[env]):
                chosen[env] = own
        return chosen


def _action_of(
    bot: Bot, place: str, spaces: Spaces, observation: np.ndarray, infos: dict[str, Any], *, env: int
) -> np.ndarray:
    """Return the action of `bot` in one of B environments, in the policy's format. Raises BotFault if it is invalid."""
    info = info_of(infos, env, len(observation))
    if spaces.is_masked:
        info["action_mask"] = spaces.legal(observation[env : env + 1])[0].astype(np.int8)
    try:
        answer = bot(spaces.unpacked(observation[env]), info)
    except BaseException as problem:
        raise _fault_of(problem, place) from problem
    actions, choice = spaces.actions, np.zeros(0)
    with contextlib.suppress(TypeError, ValueError), np.errstate(invalid="ignore"):
        given = np.asarray(answer)
        if actions.is_continuous or (given == given.astype(np.int64)).all():
            choice = actions.of_policy(given[None])[0]
    if not actions.is_valid(choice):
        raise BotFault(
            f"--bot {place} returned {answer!r}, which is not a valid action; the environment has {actions.in_words}"
        )
    return choice
