"""Atari 2600 games, stepped and preprocessed by ale-py's own C++ vector environment."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import VectorEnv

from asyncrl.envs.contract import Backend, Contract, EnvOptions
from asyncrl.errors import UsageError, near_matches
from asyncrl.spaces import Spaces, spaces_of

__all__ = ["build", "camera", "claims", "describe", "ended", "known_ids", "seeds"]

INSTALL = "pip install 'asyncrl[atari]'"
_OURS = re.compile(r"^(ALE/.*|[A-Za-z0-9]+(NoFrameskip|Deterministic)-v\d+)$")


def claims(env_id: str) -> bool:
    """Is this an Atari id, known or not?"""
    if _OURS.match(env_id):
        return True
    return (env_id not in gymnasium.registry and env_id in _registry()) or _is_ours(gymnasium.registry.get(env_id))


def describe(env_id: str, options: EnvOptions) -> Contract:
    """The contract of one Atari id under `options`."""
    if options.backend not in (Backend.AUTO, Backend.NATIVE):
        raise UsageError(
            f"{env_id}: Atari is stepped by ale-py's C++ threads; --backend {options.backend.value} is not for it."
        )
    spec = _spec(env_id)
    kwargs = spec.kwargs
    size, stack = _or(options.screen_size, 84), _or(options.frame_stack, 4)
    skip = _frame_skip(env_id, kwargs["frameskip"], options.frame_skip)
    frames = _or(options.episode_frames, int(kwargs["max_num_frames_per_episode"]))
    full = _or(options.full_actions, bool(kwargs["full_action_space"]))
    probe = _vector(kwargs["game"], 1, full_action_space=full)
    actions = spaces_of(env_id, probe.single_observation_space, probe.single_action_space).actions
    probe.close()
    return Contract(
        env=env_id,
        family="atari",
        backend=Backend.NATIVE,
        spaces=Spaces((stack, size, size), "uint8", actions),
        frame_skip=skip,
        sticky=_or(options.sticky, float(kwargs["repeat_action_probability"])),
        frame_stack=stack,
        screen_size=size,
        max_pool=skip > 1,
        reward_clip=_or(options.reward_clip, 1.0) or None,
        reward_scale=options.reward_scale,
        life_loss=_or(options.life_loss, False),
        noop_max=_or(options.noop_max, 30),
        fire_reset=False,
        action_set="all 18" if full else "the game's own",
        episode_cap=frames // skip,
        versions={"ale-py": version("ale-py"), "gymnasium": version("gymnasium")},
    )


def build(contract: Contract, num_envs: int, threads: int, *, training: bool) -> VectorEnv:
    """`num_envs` games in one vector environment with `threads` C++ threads."""
    return _vector(
        _spec(contract.env).kwargs["game"],
        num_envs,
        num_threads=threads,
        stack_num=contract.frame_stack,
        img_height=contract.screen_size,
        img_width=contract.screen_size,
        **_rules(contract),
        life_loss_info=contract.life_loss and training,
    )


def camera(contract: Contract) -> VectorEnv:
    """A twin of one evaluation game that shows what a person sees: 210×160 RGB, the same rules.

    Stepped with the same seed and actions it plays the same game.
    """
    game = _spec(contract.env).kwargs["game"]
    return _vector(game, 1, grayscale=False, stack_num=1, img_height=210, img_width=160, **_rules(contract))


def ended(
    contract: Contract, terminated: np.ndarray, truncated: np.ndarray, infos: dict[str, Any], training: bool
) -> np.ndarray:
    """[B] bool: the game is over and the next step resets. With `life_loss`, not every end of a return is."""
    if contract.life_loss and training:
        return np.asarray((terminated & (infos["lives"] == 0)) | truncated)
    return np.asarray(terminated | truncated)


def seeds(values: Sequence[int]) -> np.ndarray:
    """One seed per game, as `reset` takes them."""
    return np.asarray(values, dtype=np.int32)


def meanings(contract: Contract) -> list[str]:
    """What each action does, as NOOP or UPFIRE."""
    with contextlib.closing(gymnasium.make(contract.env, full_action_space=contract.action_set.startswith("all"))) as env:
        emulator: Any = env.unwrapped
        return list(emulator.get_action_meanings())


def known_ids() -> list[str]:
    """Every `ALE/…-v5` id; [] without ale-py."""
    return sorted(name for name in _registry() if name.startswith("ALE/"))


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


def _frame_skip(env_id: str, own: Any, asked: int | None) -> int:
    if not isinstance(own, int):
        raise UsageError(f"{env_id} skips a random number of frames {own}; use {_v5(env_id)} or a …NoFrameskip-v4 id.")
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
    registry = _registry()
    if not registry:
        raise UsageError(f"{env_id} is an Atari game: {INSTALL}")
    if env_id not in registry:
        hint = f"; did you mean {_v5(env_id)!r}?" if _v5(env_id) in registry else near_matches(env_id, registry)
        raise UsageError(f"there is no Atari environment {env_id!r}{hint} (asyncrl list envs)")
    return registry[env_id]


def _or(asked: Any, default: Any) -> Any:
    return default if asked is None else asked
