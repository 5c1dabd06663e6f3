"""Atari 2600 games, stepped and preprocessed by ale-py's C++ vector environment."""

from __future__ import annotations

import contextlib
import functools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium.vector import VectorEnv, VectorWrapper

from asyncrl.common.packages import version_of
from asyncrl.common.validation import within
from asyncrl.envs.contract import Contract
from asyncrl.envs.families.atari_wrappers import PeriodicSeeding, TruncateLivesAtCap
from asyncrl.envs.families.pixels import PixelOptions
from asyncrl.envs.family import Family
from asyncrl.envs.options import Backend, EnvOptions
from asyncrl.envs.space_reading import spaces_of
from asyncrl.envs.spaces import Spaces
from asyncrl.errors import UsageError, suggestions

__all__ = ["Atari", "AtariOptions", "Protocol"]

INSTALL = "pip install 'asyncrl[atari]'"
SCREEN = (210, 160)
"""Height and width of the console's screen, in pixels."""
_ID = re.compile(r"^(ALE/.*|[A-Za-z0-9]+(NoFrameskip|Deterministic)-v\d+)$")
_DETERMINISTIC = re.compile(r"^([A-Za-z0-9]+)Deterministic-v([04])$")


class Protocol(Enum):
    """Published rules for comparable scores."""

    MNIH2016 = "mnih2016"
    """no sticky actions, the game's own actions, 0 to 29 no-ops at the start (Mnih et al. 2013 … 2016)"""
    MACHADO2018 = "machado2018"
    """sticky actions with probability 0.25, no no-ops, whole games (Machado et al. 2018)"""
    RAW = "raw"
    """the screen as it is: 210×160 RGB, every frame, nothing stacked or clipped"""


@dataclass(frozen=True)
class AtariOptions(PixelOptions):
    """Options of Atari games."""

    protocol: Protocol | None = None
    """Atari: rules of a publication; other options override them."""
    sticky: float | None = None
    """Atari: probability that the emulator repeats the previous action."""
    noop_max: int | None = None
    """Atari: begin episodes with fewer no-op frames than this, not counted in the cap. Default 30: 0 to 29."""
    life_loss: bool | None = None
    """Atari: end the return with each lost life in training; the game and a recurrent state continue. Default off."""
    full_actions: bool | None = None
    """Atari: all 18 actions instead of the game's own. Default off."""
    episode_frames: int | None = None
    """Atari: emulator frames after which an episode is truncated. Default 108 000 (30 minutes)."""

    def check(self) -> None:
        within(self, 0, 1, "sticky")
        within(self, 0, 10_000, "noop_max")
        within(self, 1, math.inf, "episode_frames")
        super().check()


class _Rules(NamedTuple):
    """The defaults of a protocol; None stands for the id's own."""

    sticky: float | None
    noop_max: int
    skip: int | None
    stack: int
    size: int | None
    gray: bool
    reward_clip: float


_PROTOCOLS = {
    None: _Rules(sticky=None, noop_max=30, skip=None, stack=4, size=84, gray=True, reward_clip=1.0),
    Protocol.MNIH2016: _Rules(sticky=0.0, noop_max=30, skip=4, stack=4, size=84, gray=True, reward_clip=1.0),
    Protocol.MACHADO2018: _Rules(sticky=0.25, noop_max=0, skip=4, stack=4, size=84, gray=True, reward_clip=1.0),
    Protocol.RAW: _Rules(sticky=0.0, noop_max=0, skip=1, stack=1, size=None, gray=False, reward_clip=0.0),
}


class Atari(Family):
    """Every id of every game that ships with ale-py."""

    name = "atari"
    examples = ("ALE/Pong-v5", "ALE/Breakout-v5", "ALE/SpaceInvaders-v5")
    shows_pictures = True
    stacks = True
    has_threads = True
    options = AtariOptions
    unsupported = {
        "env_kwargs": "it has its own options",
        "final_reward": "ale-py's vector environment cannot replace rewards",
        "episode_steps": "use --episode-frames",
        "standardize": "its observations are images",
    }
    keys = {"up": "UP", "down": "DOWN", "left": "LEFT", "right": "RIGHT", "space": "FIRE"}
    keys_help = "Arrows and the space bar."

    def claims(self, env_id: str) -> bool:
        registered = gymnasium.registry.get(env_id)
        if registered is not None:
            return _is_from_ale(registered)
        return bool(_ID.match(env_id)) or env_id in _registry()

    def known_ids(self) -> list[str]:
        """Return every `ALE/…-v5` id; [] without ale-py."""
        return sorted(name for name in _registry() if name.startswith("ALE/"))

    def describe(self, env_id: str, options: EnvOptions) -> Contract:
        assert isinstance(options, AtariOptions)
        if options.env_backend not in (Backend.AUTO, Backend.NATIVE):
            given = f"--env-backend {options.env_backend.value}"
            raise UsageError(f"{env_id}: ale-py's C++ threads step Atari games, so {given} is not possible; use native")
        rules = _PROTOCOLS[options.protocol]
        kwargs = _spec(env_id).kwargs
        skip = _frame_skip(env_id, kwargs["frameskip"], options.frame_skip, rules.skip)
        frames = _or(options.episode_frames, int(kwargs["max_num_frames_per_episode"]))
        if frames < skip:
            raise UsageError(f"{env_id}: --episode-frames {frames} ends before the first step, which takes {skip} frames")
        full_actions = _or(options.full_actions, bool(kwargs["full_action_space"]))
        stack = _or(options.frame_stack, rules.stack)
        gray = _or(options.gray, rules.gray)
        size = _or(options.screen_size, rules.size)
        return Contract(
            env=env_id,
            family=self.name,
            backend=Backend.NATIVE,
            spaces=_spaces(env_id, kwargs["game"], full_actions=full_actions, stack=stack, gray=gray, size=size),
            frame_skip=skip,
            sticky=_or(options.sticky, _or(rules.sticky, float(kwargs["repeat_action_probability"]))),
            frame_stack=stack,
            screen_size=size,
            gray=gray,
            max_pool=skip > 1,
            reward_clip=_or(options.reward_clip, rules.reward_clip) or None,
            reward_scale=options.reward_scale,
            life_loss=_or(options.life_loss, False),
            noop_max=_or(options.noop_max, rules.noop_max),
            fire_reset=False,
            action_set="all 18" if full_actions else "the game's own",
            episode_cap=frames // skip,
            versions={"ale-py": version_of("ale-py"), "gymnasium": version_of("gymnasium")},
        )

    def is_batched(self, contract: Contract) -> bool:
        return True

    def build(
        self, contract: Contract, num_envs: int, threads: int, *, training: bool, render: bool, seed: int = 0
    ) -> VectorEnv:
        height, width = _frame_size(contract.screen_size)
        vector = _vector(
            _spec(contract.env).kwargs["game"],
            num_envs,
            num_threads=threads,
            stack_num=contract.frame_stack,
            grayscale=contract.gray,
            img_height=height,
            img_width=width,
            **_emulator_settings(contract),
            life_loss_info=contract.life_loss and training,
        )
        if contract.life_loss and training:
            assert contract.episode_cap is not None
            vector = TruncateLivesAtCap(vector, contract.episode_cap)
        episode_ended = functools.partial(self.episode_ended, contract, training=training)
        return PeriodicSeeding(_WithScreen(vector, contract) if render else vector, episode_ended)

    def seeds(self, vector: VectorEnv, values: Sequence[int]) -> Any:
        return np.asarray(values, dtype=np.int32)

    def seeds_and_steps(self, vector: VectorEnv) -> np.ndarray | None:
        seeded: Any = vector
        return np.array(seeded.seeds_and_steps)

    def episode_ended(
        self, contract: Contract, terminated: np.ndarray, truncated: np.ndarray, infos: dict[str, Any], training: bool
    ) -> np.ndarray:
        """With `life_loss`, a return may end before the game does."""
        if contract.life_loss and training:
            return np.asarray((terminated & (infos["lives"] == 0)) | truncated)
        return np.asarray(terminated | truncated)

    def meanings(self, contract: Contract) -> list[str]:
        spec = _spec(contract.env)
        with contextlib.closing(gymnasium.make(spec, full_action_space=_has_full_actions(contract))) as env:
            emulator: Any = env.unwrapped
            return list(emulator.get_action_meanings())

    def rows(self, contract: Contract) -> dict[str, str]:
        noops = f"0 to {contract.noop_max - 1} frames, not counted in the cap" if contract.noop_max > 1 else "none"
        return {
            "sticky actions": f"probability {contract.sticky:g}" if contract.sticky else "none",
            "life loss": "ends the return in training" if contract.life_loss else "ignored",
            "no-op starts": noops + (", then fire" if contract.fire_reset else ""),
        }


class _WithScreen(VectorWrapper):
    """Games that render the console's screen, 210×160 RGB.

    A second set of games with the same rules, seeds and actions produces the pictures.
    """

    def __init__(self, env: VectorEnv, contract: Contract) -> None:
        super().__init__(env)
        game = _spec(contract.env).kwargs["game"]
        height, width = SCREEN
        self._screens = _vector(
            game,
            env.num_envs,
            grayscale=False,
            stack_num=1,
            img_height=height,
            img_width=width,
            **_emulator_settings(contract),
        )
        self.metadata = {**env.metadata, "render_fps": 60 / contract.frame_skip}

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self._pictures, _ = self._screens.reset(seed=seed, options=options)
        return self.env.reset(seed=seed, options=options)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        self._pictures, *_ = self._screens.step(actions)
        return self.env.step(actions)

    def render(self) -> tuple[np.ndarray, ...]:
        return tuple(self._pictures[:, 0])

    def close(self, **kwargs: Any) -> None:
        self._screens.close(**kwargs)
        self.env.close(**kwargs)


def _emulator_settings(contract: Contract) -> dict[str, Any]:
    assert contract.episode_cap is not None
    return {
        "frameskip": contract.frame_skip,
        "maxpool": contract.max_pool,
        "repeat_action_probability": contract.sticky,
        "noop_max": contract.noop_max,
        "use_fire_reset": contract.fire_reset,
        "full_action_space": _has_full_actions(contract),
        "max_num_frames_per_episode": contract.episode_cap * contract.frame_skip,
    }


def _has_full_actions(contract: Contract) -> bool:
    return contract.action_set.startswith("all")


def _frame_size(size: int | None) -> tuple[int, int]:
    return (size, size) if size else SCREEN


@functools.cache  # a game takes 0.2 s to load
def _spaces(env_id: str, game: str, *, full_actions: bool, stack: int, gray: bool, size: int | None) -> Spaces:
    height, width = _frame_size(size)
    settings = {"full_action_space": full_actions, "stack_num": stack, "grayscale": gray}
    with contextlib.closing(_vector(game, 1, img_height=height, img_width=width, **settings)) as vector:
        return spaces_of(env_id, vector.single_observation_space, vector.single_action_space)


def _vector(game: str, num_envs: int, **settings: Any) -> VectorEnv:
    try:
        from ale_py.vector_env import AtariVectorEnv
    except ImportError:  # ale-py is installed, for its ids were found, but OpenCV is not
        raise UsageError(f"ale-py's vector environment needs OpenCV: {INSTALL}") from None
    vector: VectorEnv = AtariVectorEnv(game, num_envs, reward_clipping=False, **{"num_threads": 1, **settings})
    return vector


def _frame_skip(env_id: str, own: Any, asked: int | None, protocol: int | None) -> int:
    """Return the frame skip. Raises UsageError for a random one, and where another id is for choosing it."""
    if asked is None and protocol is not None:
        return protocol
    if not isinstance(own, int):
        if asked is not None:
            return asked
        raise UsageError(
            f"{env_id} skips a random number of frames {own}; use {_v5(env_id)} or a …NoFrameskip-v4 id, or --frame-skip N"
        )
    plain = f"{_v5(env_id)[4:-3]}NoFrameskip-v4"
    if own > 1 and asked is not None and plain in _registry():
        raise UsageError(
            f"{env_id} already skips {own} frames; --frame-skip {asked} would skip twice. "
            f"Use {plain} to choose the frame skip yourself."
        )
    return asked or (own if own > 1 else 4)


def _v5(env_id: str) -> str:
    game = re.sub(r"^ALE/|(NoFrameskip|Deterministic)?-v\d+$", "", env_id)
    return f"ALE/{game}-v5"


def _registry() -> dict[str, Any]:
    """Return Gymnasium's specs of ale-py's ids; {} without ale-py."""
    try:
        import ale_py
    except ImportError:
        return {}
    if "ALE/Pong-v5" not in gymnasium.registry:
        gymnasium.register_envs(ale_py)
    return {name: spec for name, spec in gymnasium.registry.items() if _is_from_ale(spec)}


def _is_from_ale(spec: Any) -> bool:
    return spec is not None and "ale_py" in str(spec.entry_point)


def _spec(env_id: str) -> Any:
    """Return the spec of an id.

    ale-py no longer has …Deterministic-v0 and -v4; they are …NoFrameskip with a frame skip of 4, or of 3 in Space Invaders.
    """
    registry = _registry()
    if not registry:
        raise UsageError(f"{env_id} is an Atari game: {INSTALL}")
    if old := _DETERMINISTIC.match(env_id):
        same = registry.get(f"{old[1]}NoFrameskip-v{old[2]}")
        if same is not None:
            skip = 3 if old[1] == "SpaceInvaders" else 4  # its lasers blink every fourth frame
            return gymnasium.envs.registration.EnvSpec(env_id, same.entry_point, kwargs={**same.kwargs, "frameskip": skip})
    if env_id not in registry:
        hint = f"; did you mean {_v5(env_id)!r}?" if _v5(env_id) in registry else suggestions(env_id, registry)
        raise UsageError(f"there is no Atari environment {env_id!r}{hint} (asyncrl list envs)")
    return registry[env_id]


def _or(asked: Any, default: Any) -> Any:
    return default if asked is None else asked
