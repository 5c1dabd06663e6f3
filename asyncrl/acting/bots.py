"""Scripted players: what somebody already knows about a game, as experience and as exploration.

A bot is any callable ``(observation, info) -> action``, or a `ScriptedBot` of actions. It sees what the environment
shows and answers as the environment takes actions; a new one begins every episode.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
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
from asyncrl.envs.spaces import Spaces
from asyncrl.errors import BotFault, UsageError, suggestions

__all__ = ["Bot", "BotOptions", "BotPlayer", "BotRoster", "ScriptedBot", "open_bot"]

Bot = Callable[[Any, dict[str, Any]], Any]


class ScriptedBot:
    """Plays a list of actions, then `fallback` for ever."""

    def __init__(self, actions: Sequence[Any], fallback: Any) -> None:
        self._actions, self._fallback = iter(actions), fallback

    def __call__(self, observation: np.ndarray, info: dict[str, Any]) -> Any:
        return next(self._actions, self._fallback)


@dataclass(frozen=True)
class BotOptions:
    """Who else plays (methods with a replay memory)."""

    bot: str | None = None
    """A function that makes a bot: FILE.py:NAME, or MODULE:NAME."""
    bot_share: float = 0.0
    """Share of the episodes that the bot plays, throughout; below 1."""
    bot_prefill: int = 0
    """Steps that the bot plays before anything is learned."""
    bot_explores: bool = False
    """Where a random action would be taken, the bot's is taken."""

    @property
    def code(self) -> tuple[str, ...]:
        """The bot, if there is one and it is named as `module:Name`."""
        return () if self.bot is None or ".py:" in self.bot else (self.bot,)

    def check(self) -> None:
        """Raise UsageError for what cannot be; a bot's file is run."""
        if not 0 <= self.bot_share < 1:
            raise UsageError(f"--bot-share must be 0 or more and below 1, not {self.bot_share:g}")
        within(self, 0, math.inf, "bot_prefill")
        asked = self.bot_share > 0 or self.bot_prefill > 0 or self.bot_explores
        if self.bot is None and asked:
            raise UsageError("--bot-share, --bot-prefill and --bot-explores need a bot: --bot FILE.py:NAME")
        if self.bot is not None:
            if not asked:
                raise UsageError("--bot plays nothing yet: add --bot-share, --bot-prefill or --bot-explores")
            open_bot(self.bot)


def open_bot(place: str) -> Callable[[], Bot]:
    """What makes a bot, from ``FILE.py:NAME`` or ``MODULE:NAME``. Raises UsageError where there is none."""
    file, colon, name = place.rpartition(":")
    if not colon or not name.isidentifier():
        raise UsageError(f"--bot {place}: expected FILE.py:NAME or MODULE:NAME")
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
        raise UsageError(f"--bot {place}: {name} is no function that makes a bot")

    def checked() -> Bot:
        try:
            bot = make()
        except BaseException as problem:
            raise _fault_of(problem, place) from problem
        if not callable(bot):
            raise BotFault(f"--bot {place} made {bot!r}, which is no function of observation and info, and no ScriptedBot")
        made: Bot = bot
        return made

    return checked


def _from_file(path: Path) -> ModuleType:
    name = f"asyncrl_bot_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _fault_of(problem: BaseException, place: str) -> BotFault:
    """`raised ValueError: … (bot.py, line 7)`: the innermost place in the problem's traceback. Ctrl-C is raised on."""
    if is_from_keyboard(problem):
        raise problem
    last = traceback.extract_tb(problem.__traceback__)[-1]
    raised = ": ".join(filter(None, [type(problem).__name__, str(problem)]))
    return BotFault(f"--bot {place} raised {raised} ({last.filename}, line {last.lineno})")


class BotPlayer:
    """A bot that plays one environment, as `episodes.Player`."""

    def __init__(self, place: str, spaces: Spaces) -> None:
        self._place, self._spaces = place, spaces
        self._make = open_bot(place)

    def __call__(self, observation: np.ndarray, info: dict[str, Any], begins: bool) -> np.ndarray:
        if begins:
            self._bot = self._make()
        return ask(self._bot, self._place, self._spaces, observation, info, 0)[None]


class BotRoster:
    """The bots of one actor's environments, and which of them play."""

    def __init__(self, options: BotOptions, spaces: Spaces, seed: int, actor: int, envs: int) -> None:
        assert options.bot is not None
        self._options, self._spaces, self._address = options, spaces, (seed, actor)
        self._make = open_bot(options.bot)
        self._bots: list[Bot] = [self._make() for _ in range(envs)]
        self._playing = np.zeros(envs, dtype=bool)

    def begin(self, beginning: np.ndarray, step: int, moment: tuple[int, int]) -> None:
        """Episodes begin in the environments `beginning` [B]; `moment` is the rollout's number and the step in it."""
        if not beginning.any():
            return
        seed, actor = self._address
        draws = uniform(seed, Stream.BOT, len(beginning), actor, *moment)
        share = 1.0 if step < self._options.bot_prefill else self._options.bot_share
        self._playing = np.where(beginning, draws < share, self._playing)
        for env in np.flatnonzero(beginning):
            self._bots[env] = self._make()

    def play(self, action: np.ndarray, random: np.ndarray, observation: np.ndarray, infos: dict[str, Any]) -> np.ndarray:
        """What is done: `action` [B, …] is the policy's, `random` [B] says where it is a random one.

        A bot sees its environment before it acts, whether it plays or not: it may keep what it sees in mind.
        """
        done = action.copy()
        for env, bot in enumerate(self._bots):
            own = ask(bot, self._options.bot or "", self._spaces, observation, infos, env)
            if self._playing[env] or (self._options.bot_explores and random[env]):
                done[env] = own
        return done


def ask(bot: Bot, place: str, spaces: Spaces, observation: np.ndarray, infos: dict[str, Any], env: int) -> np.ndarray:
    """What `bot` does in one of B environments, as a policy gives it. Raises BotFault where that is no action."""
    info = {name: rows[env] for name, rows in infos.items() if _has_rows(rows, len(observation))}
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
        raise BotFault(f"--bot {place} did {answer!r}, which is no action here: there are {actions}")
    return choice


def _has_rows(value: Any, count: int) -> bool:
    return isinstance(value, np.ndarray | list) and len(value) == count
