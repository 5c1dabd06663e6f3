"""Atari 2600 games, stepped and preprocessed by ale-py's own C++ vector environment."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium.vector import VectorEnv, VectorWrapper

from asyncrl.envs.contract import Contract
from asyncrl.envs.family import Family
from asyncrl.envs.options import Backend, EnvOptions, Protocol
from asyncrl.envs.seeding import next_seed
from asyncrl.envs.spaces import spaces_of
from asyncrl.errors import UsageError, suggestions

__all__ = ["Atari"]

INSTALL = "pip install 'asyncrl[atari]'"
SCREEN = (210, 160)
"""Height and width of what a person sees, in pixels."""
SEEDED_EVERY = 20_000
"""Steps after which a game's next episode takes a new seed. A continued run plays again what was played since. More often
would cost: ale-py loads the game anew to seed it, 82 ms, the time of some 500 steps."""
_OURS = re.compile(r"^(ALE/.*|[A-Za-z0-9]+(NoFrameskip|Deterministic)-v\d+)$")
_DETERMINISTIC = re.compile(r"^([A-Za-z0-9]+)Deterministic-v([04])$")


class _Rules(NamedTuple):
    """What a protocol says; None: what the id says."""

    sticky: float | None
    noop_max: int
    skip: int | None
    stack: int
    size: int | None
    gray: bool
    reward_clip: float


_PROTOCOLS = {
    None: _Rules(None, 30, None, 4, 84, True, 1.0),
    Protocol.MNIH2016: _Rules(0.0, 30, 4, 4, 84, True, 1.0),
    Protocol.MACHADO2018: _Rules(0.25, 0, 4, 4, 84, True, 1.0),
    Protocol.RAW: _Rules(0.0, 0, 1, 1, None, False, 0.0),
}


class Atari(Family):
    """Every name of every game that ships with ale-py."""

    name = "atari"
    shows_pictures = True
    stacks = True
    has_threads = True
    options = frozenset(
        {
            *("frame_skip", "frame_stack", "screen_size", "gray", "sticky", "noop_max"),
            *("life_loss", "full_actions", "episode_frames", "protocol"),
        }
    )

    def claims(self, env_id: str) -> bool:
        registered = gymnasium.registry.get(env_id)
        if registered is not None:
            return _is_ours(registered)
        return bool(_OURS.match(env_id)) or env_id in _registry()

    def known_ids(self) -> list[str]:
        """Every `ALE/…-v5` id; [] without ale-py."""
        return sorted(name for name in _registry() if name.startswith("ALE/"))

    def describe(self, env_id: str, options: EnvOptions) -> Contract:
        if options.env_backend not in (Backend.AUTO, Backend.NATIVE):
            asked = f"--env-backend {options.env_backend.value}"
            raise UsageError(f"{env_id}: Atari is stepped by ale-py's C++ threads; {asked} is not for it.")
        if options.standardize or options.episode_steps:
            raise UsageError(f"{env_id}: --standardize is not for images, and --episode-steps is --episode-frames here")
        options.reject_unsupported(self.options, env_id)
        rules, kwargs = _PROTOCOLS[options.protocol], _spec(env_id).kwargs
        skip = _frame_skip(env_id, kwargs["frameskip"], options.frame_skip, rules.skip)
        frames = _or(options.episode_frames, int(kwargs["max_num_frames_per_episode"]))
        full = _or(options.full_actions, bool(kwargs["full_action_space"]))
        stack, gray, size = _or(options.frame_stack, rules.stack), _or(options.gray, rules.gray), rules.size
        size = _or(options.screen_size, size)
        height, width = (size, size) if size else SCREEN
        probe = _vector(
            kwargs["game"],
            1,
            full_action_space=full,
            stack_num=stack,
            grayscale=gray,
            img_height=height,
            img_width=width,
        )
        spaces = spaces_of(env_id, probe.single_observation_space, probe.single_action_space)
        probe.close()
        return Contract(
            env=env_id,
            family=self.name,
            backend=Backend.NATIVE,
            spaces=spaces,
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
            action_set="all 18" if full else "the game's own",
            episode_cap=frames // skip,
            versions={"ale-py": version("ale-py"), "gymnasium": version("gymnasium")},
        )

    def is_batched(self, contract: Contract) -> bool:
        return True

    def build(
        self, contract: Contract, num_envs: int, threads: int, *, training: bool, render: bool, seed: int = 0
    ) -> VectorEnv:
        height, width = (contract.screen_size, contract.screen_size) if contract.screen_size else SCREEN
        vector = _vector(
            _spec(contract.env).kwargs["game"],
            num_envs,
            num_threads=threads,
            stack_num=contract.frame_stack,
            grayscale=contract.gray,
            img_height=height,
            img_width=width,
            **_rules(contract),
            life_loss_info=contract.life_loss and training,
        )
        if contract.life_loss and training:
            assert contract.episode_cap is not None
            vector = _LivesAtCap(vector, contract.episode_cap)
        over = partial(self.episode_ended, contract, training=training)
        return _PeriodicSeeding(_Filmed(vector, contract) if render else vector, over)

    def seeds(self, vector: VectorEnv, values: Sequence[int]) -> Any:
        return np.asarray(values, dtype=np.int32)

    def seeds_and_steps(self, vector: VectorEnv) -> np.ndarray | None:
        seeded: Any = vector
        return np.array(seeded.seeds_and_steps)

    def episode_ended(
        self, contract: Contract, terminated: np.ndarray, truncated: np.ndarray, infos: dict[str, Any], training: bool
    ) -> np.ndarray:
        """With `life_loss`, not every end of a return is the end of the game."""
        if contract.life_loss and training:
            return np.asarray((terminated & (infos["lives"] == 0)) | truncated)
        return np.asarray(terminated | truncated)

    def meanings(self, contract: Contract) -> list[str]:
        spec, full = _spec(contract.env), contract.action_set.startswith("all")
        with contextlib.closing(gymnasium.make(spec, full_action_space=full)) as env:
            emulator: Any = env.unwrapped
            return list(emulator.get_action_meanings())


class _PeriodicSeeding(VectorWrapper):
    """Games that get a new seed now and then: without one, an episode goes on with the generators of the one before."""

    def __init__(self, env: VectorEnv, over: Callable[..., np.ndarray]) -> None:
        """`over` says of `terminated`, `truncated` and `infos` whether ale-py resets in the next step."""
        super().__init__(env)
        self._is_over = over
        self._over: np.ndarray = np.zeros(env.num_envs, dtype=bool)
        self.seeds_and_steps: np.ndarray = np.zeros((2, env.num_envs), dtype=np.int64)
        """[2, B] what each game was last seeded with, and how many steps ago"""

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """One seed per game; with the option `reset_mask`, [B] bool, games outside it stay as they are."""
        begins: np.ndarray = (options or {}).get("reset_mask", np.ones(self.num_envs, dtype=bool))
        seeds: Any = np.asarray(seed, dtype=np.int32)[begins]
        self.seeds_and_steps[0, begins], self.seeds_and_steps[1, begins] = seeds, 0
        self._over = self._over & ~begins
        return self.env.reset(seed=seeds, options={"reset_mask": begins})

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        late = self._over & (self.seeds_and_steps[1] >= SEEDED_EVERY)
        observation, reward, terminated, truncated, infos = self.env.step(actions)
        self._over = self._is_over(terminated, truncated, infos)
        self.seeds_and_steps[1] += 1
        if late.any():
            seeds = [next_seed(seed) for seed in self.seeds_and_steps[0].tolist()]
            observation, infos = self.reset(seed=seeds, options={"reset_mask": late})
        return observation, reward, terminated, truncated, infos


class _LivesAtCap(VectorWrapper):
    """Games in which a lost life terminates. ale-py says only that of a life that is lost in the very step of the cap, and
    resets in the next step; here that step is truncated, too.
    """

    def __init__(self, env: VectorEnv, cap: int) -> None:
        super().__init__(env)
        self._cap = cap
        self._steps: np.ndarray = np.zeros(env.num_envs, dtype=np.int64)
        """[B] of each game"""

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self._steps[(options or {}).get("reset_mask", slice(None))] = 0
        return self.env.reset(seed=seed, options=options)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        observation, reward, terminated, truncated, infos = self.env.step(actions)
        self._steps += 1
        truncated = truncated | (terminated & (self._steps >= self._cap))
        self._steps[truncated | (terminated & (infos["lives"] == 0))] = -1  # the next step resets
        return observation, reward, terminated, truncated, infos


class _Filmed(VectorWrapper):
    """Games and their twins, which show what a person sees: 210×160 RGB.

    A twin has the same rules and plays the same game, because it gets the same seed and actions.
    """

    def __init__(self, env: VectorEnv, contract: Contract) -> None:
        super().__init__(env)
        game = _spec(contract.env).kwargs["game"]
        look = dict(grayscale=False, stack_num=1, img_height=SCREEN[0], img_width=SCREEN[1])
        self._twin = _vector(game, env.num_envs, **look, **_rules(contract))
        self.metadata = {**env.metadata, "render_fps": 60 / contract.frame_skip}

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self._pictures, _ = self._twin.reset(seed=seed, options=options)
        return self.env.reset(seed=seed, options=options)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        self._pictures, *_ = self._twin.step(actions)
        return self.env.step(actions)

    def render(self) -> tuple[np.ndarray, ...]:
        return tuple(self._pictures[:, 0])

    def close(self, **kwargs: Any) -> None:
        self._twin.close(**kwargs)
        self.env.close(**kwargs)


def _rules(contract: Contract) -> dict[str, Any]:
    assert contract.episode_cap is not None
    return dict(
        frameskip=contract.frame_skip,
        maxpool=contract.max_pool,
        repeat_action_probability=contract.sticky,
        noop_max=contract.noop_max,
        use_fire_reset=contract.fire_reset,
        full_action_space=contract.action_set.startswith("all"),
        max_num_frames_per_episode=contract.episode_cap * contract.frame_skip,
    )


def _vector(game: str, num_envs: int, **settings: Any) -> VectorEnv:
    try:
        from ale_py.vector_env import AtariVectorEnv
    except ImportError:  # ale-py is there (its ids were found), OpenCV is not
        raise UsageError(f"ale-py's vector environment needs OpenCV: {INSTALL}") from None
    vector: VectorEnv = AtariVectorEnv(game, num_envs, reward_clipping=False, **{"num_threads": 1, **settings})
    return vector


def _frame_skip(env_id: str, own: Any, asked: int | None, rule: int | None) -> int:
    if asked is None and rule is not None:
        return rule
    if not isinstance(own, int):
        if asked is not None:
            return asked
        raise UsageError(
            f"{env_id} skips a random number of frames {own}; use {_v5(env_id)} or a …NoFrameskip-v4 id, or --frame-skip N."
        )
    if own > 1 and asked is not None:
        raise UsageError(
            f"{env_id} already skips {own} frames; --frame-skip {asked} would skip twice. "
            f"Use {_v5(env_id)[4:-3]}NoFrameskip-v4 to choose the frame skip yourself."
        )
    return own if own > 1 else _or(asked, 4)


def _v5(env_id: str) -> str:
    game = re.sub(r"^ALE/|(NoFrameskip|Deterministic)?-v\d+$", "", env_id)
    return f"ALE/{game}-v5"


def _registry() -> dict[str, Any]:
    """Gymnasium's specs of ale-py's ids; {} where ale-py is not installed."""
    try:
        import ale_py
    except ImportError:
        return {}
    if "ALE/Pong-v5" not in gymnasium.registry:
        gymnasium.register_envs(ale_py)
    return {name: spec for name, spec in gymnasium.registry.items() if _is_ours(spec)}


def _is_ours(spec: Any) -> bool:
    return spec is not None and "ale_py" in str(spec.entry_point)


def _spec(env_id: str) -> Any:
    """What an id means; …Deterministic-v0 and -v4, which ale-py has no more, are …NoFrameskip with a frame skip of 4."""
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
