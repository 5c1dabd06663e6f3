"""Recorded play, as Minari datasets (minari.farama.org): written from any player, read back as demonstrations."""

from __future__ import annotations

import contextlib
import math
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from gymnasium import spaces as gym

from asyncrl.common.dtypes import limits
from asyncrl.common.randomness import Stream, environment_seeds
from asyncrl.common.serialization import parse_json, read_json
from asyncrl.envs import Contract, Environments, Step
from asyncrl.envs.spaces import Actions, Spaces, pack, spaces_of
from asyncrl.errors import UsageError, suggestions

__all__ = ["Demonstration", "Player", "check", "check_name_free", "read", "record", "write"]

Player = Callable[[np.ndarray, dict[str, Any], bool], np.ndarray]
"""(observations [1, *O] as the environment shows them, info, does an episode begin) → actions [1, …] of a policy"""

_FORM = "NAME-v0 or NAMESPACE/NAME-v0, of letters, digits, - and _, the namespace of two or more"
_MOST_EPISODES, _MOST_PARTS = 10_000_000, 1_000_000
_NAME = re.compile(r"([-\w][-\w/]*[-\w]/)?[-\w]+-v\d+", re.ASCII)
"""As Minari has it: a namespace has two characters or more."""


@dataclass(frozen=True)
class Demonstration:
    """One episode that somebody played."""

    observation: np.ndarray
    """[T+1, *O] as the environment showed them"""
    action: np.ndarray
    """[T, …] as `Actions` says"""
    reward: np.ndarray
    """[T] float32"""
    terminated: bool
    """It ended by itself; else it was cut off"""

    @property
    def score(self) -> float:
        return float(self.reward.sum())


class PlayableEnv(Protocol):
    """One environment to play in, as `View` is."""

    def reset(self, seed: int) -> np.ndarray:
        """Begin an episode; returns the observation, [1, *O]."""

    def step(self, action: np.ndarray) -> Step: ...

    @property
    def infos(self) -> dict[str, Any]:
        """What the last reset or step told besides."""


class _SingleEnv(Environments):
    """One environment that nobody looks at."""

    def __init__(self, contract: Contract) -> None:
        super().__init__(contract, 1, training=False)

    def reset(self, seed: Any) -> np.ndarray:
        return super().reset([seed])


def record(
    player: Player,
    contract: Contract,
    episodes: int,
    seed: int,
    stage: PlayableEnv | None = None,
    *,
    limit: int | None = None,
) -> Iterator[Demonstration]:
    """Have somebody play episodes, one after the other, under `contract`, on a stage of its own or on this one.

    Each is cut off after `limit` steps.
    """
    with contextlib.ExitStack() as stack:
        if stage is None:
            stage = stack.enter_context(contextlib.closing(_SingleEnv(contract)))
        for seed_of_one in environment_seeds(seed, Stream.EVALUATION, episodes):
            seen = [stage.reset(seed_of_one).copy()]  # some environments show everything in one array
            done: list[np.ndarray] = []
            got: list[float] = []
            while True:
                action = player(seen[-1], stage.infos, not done)
                step = stage.step(action)
                seen.append(step.observation.copy())
                done.append(action[0].copy())
                got.append(step.reward[0])
                if step.done[0] or len(done) == limit:
                    yield Demonstration(np.concatenate(seen), np.array(done), np.array(got), bool(step.terminated[0]))
                    break


def check_name_free(name: str) -> None:
    """Raise UsageError for a new dataset's name that is malformed or taken, before anybody has played for nothing."""
    minari = _minari()
    if not _NAME.fullmatch(name):
        raise UsageError(f"dataset {name}: expected {_FORM}")
    if minari.storage.get_dataset_path(name).exists():
        raise UsageError(f"there is a dataset {name} already; choose another name")


def write(name: str, contract: Contract, episodes: Sequence[Demonstration], player: str) -> None:
    """A new dataset. Raises UsageError for a name that is malformed or taken: nothing is ever overwritten."""
    check_name_free(name)
    minari = _minari()
    actions = contract.spaces.actions
    buffers = [
        minari.data_collector.EpisodeBuffer(
            id=i,
            observations=one.observation,
            actions=actions.for_environment(one.action),
            rewards=one.reward,
            terminations=np.arange(len(one.reward)) == (len(one.reward) - 1 if one.terminated else -1),
            truncations=np.arange(len(one.reward)) == (-1 if one.terminated else len(one.reward) - 1),
            infos={},
        )
        for i, one in enumerate(episodes)
    ]
    description = f"{contract.env}, recorded by asyncrl: " + "; ".join(contract.lines())
    spaces = {"observation_space": _observations(contract.spaces), "action_space": _actions(actions)}
    with warnings.catch_warnings(action="ignore"):  # what Minari would like to know besides
        try:
            minari.create_dataset_from_buffers(name, buffers, **spaces, algorithm_name=player, description=description)
        except ValueError as problem:
            raise UsageError(f"dataset {name}: {problem}") from None


def check(name: str, contract: Contract) -> None:
    """Raise UsageError where a dataset is missing or of other spaces; its episodes are not looked at."""
    with _translate_errors(name):
        _open(name, contract)


def read(name: str, contract: Contract) -> list[Demonstration]:
    """The episodes of a dataset. Raises UsageError where it is missing, damaged, empty, or of other spaces."""
    with _translate_errors(name):
        dataset, found = _open(name, contract)
        episodes = [_demonstration(one, found, contract.spaces) for one in dataset.iterate_episodes() if len(one.rewards)]
    if not episodes:
        raise UsageError(f"dataset {name} is empty")
    return episodes


def _demonstration(one: Any, own: Spaces, spaces: Spaces) -> Demonstration:
    """An episode as Minari gives it, in the dataset's `own` spaces. Raises ValueError where it is none of `spaces`."""
    steps, dtype = len(one.rewards), np.dtype(spaces.observation_dtype)
    found = Demonstration(
        pack(own, one.observations, check=True),
        spaces.actions.of_policy(np.asarray(one.actions)),
        np.asarray(one.rewards, np.float32),
        bool(one.terminations[-1]),
    )
    if found.observation.shape != (steps + 1, *spaces.observation_shape):
        raise ValueError(f"episode {one.id} has observations {found.observation.shape} for {steps} steps")
    if len(found.action) != steps or not all(map(spaces.actions.is_valid, found.action)):
        raise ValueError(f"episode {one.id} has actions that are none of {spaces.actions}, or not one for each step")
    if found.reward.ndim != 1 or not np.isfinite(found.reward).all():
        raise ValueError(f"episode {one.id} has rewards that are no finite numbers")
    if dtype.kind == "f" and not np.isfinite(found.observation).all():
        raise ValueError(f"episode {one.id} has observations that are not finite")
    return found


def _open(name: str, contract: Contract) -> tuple[Any, Spaces]:
    """A dataset and the spaces that it says it has."""
    minari = _minari()
    if not _NAME.fullmatch(name):
        raise UsageError(f"dataset {name}: expected {_FORM}")
    folder = Path(minari.storage.get_dataset_path(name)) / "data"
    if not folder.exists():
        raise FileNotFoundError(folder)
    _check_metadata(folder / "metadata.json")
    if (file := folder / "main_data.hdf5").exists():
        _check_sizes(file)
    dataset = minari.load_dataset(name)
    found = spaces_of(name, dataset.observation_space, dataset.action_space)
    _compare(name, found, contract)
    return dataset, found


def _check_metadata(path: Path) -> None:
    """Raise UsageError for metadata that say too little or too much.

    Minari makes the environment that they name where they do not say what its spaces are: whatever code that is.
    """
    metadata = read_json(path)
    metadata = metadata if isinstance(metadata, dict) else {}
    for name, kind in {"observation_space": str, "action_space": str, "total_episodes": int, "total_steps": int}.items():
        if not isinstance(metadata.get(name), kind):
            raise ValueError(f"{path} says nothing of its {name}")
    if not 0 <= metadata["total_episodes"] <= _MOST_EPISODES:
        raise ValueError(f"{path} says that it has {metadata['total_episodes']} episodes")
    for name in ("observation_space", "action_space"):
        _check_space(parse_json(metadata[name]))


def _check_space(space: Any) -> None:
    """Raise ValueError for a space of more parts than an action or an observation has."""
    if not isinstance(space, dict):
        raise ValueError("a space is a table")
    parts = space.get("subspaces", [])
    for part in parts.values() if isinstance(parts, dict) else parts:
        _check_space(part)
    counted = space.get("n") if space.get("type") == "MultiBinary" else []
    if math.prod(counted if isinstance(counted, list) else [counted]) > _MOST_PARTS:
        raise ValueError(f"a space has {counted} parts")


def _check_sizes(path: Path) -> None:
    """Raise ValueError where a file of episodes would take more memory than there is, or leads out of itself."""
    import h5py
    import psutil

    if path.is_symlink() or not path.is_file():  # a device or a pipe would be searched for a beginning for ever
        raise ValueError(f"{path} is no plain file")
    with h5py.File(path, "r") as file:
        whole = 0

        def visit(name: str, item: Any) -> None:
            nonlocal whole
            if isinstance(item, h5py.Group):
                for key in item:
                    if not isinstance(item.get(key, getlink=True), h5py.HardLink):
                        raise ValueError(f"{name}/{key} is a link")
                return
            if item.external is not None or item.is_virtual:
                raise ValueError(f"{name} lies in another file")
            whole += item.nbytes

        visit("", file)
        file.visititems(visit)
    if whole > (free := psutil.virtual_memory().available):
        raise ValueError(f"{path} holds {whole / 1e9:,.1f} GB, and {free / 1e9:,.1f} GB of memory are free")


@contextlib.contextmanager
def _translate_errors(name: str) -> Iterator[None]:
    """Say what is wrong with a dataset that Minari cannot read."""
    try:
        yield
    except FileNotFoundError:
        near = suggestions(name, _known())
        raise UsageError(f"there is no dataset {name} here{near}; a published one: minari download {name}") from None
    except UsageError:
        raise
    except ValueError as problem:
        raise UsageError(f"dataset {name}: {problem}") from None
    except Exception as problem:  # whatever Minari, h5py and Pillow make of what they did not write
        raise UsageError(f"dataset {name} is damaged: {type(problem).__name__}: {problem}") from None


def _compare(name: str, found: Spaces, contract: Contract) -> None:
    ours = contract.spaces
    if (found.observation_shape, found.observation_dtype) != (ours.observation_shape, ours.observation_dtype):
        raise UsageError(
            f"dataset {name} has observations {found.observation_shape} {found.observation_dtype}, and {contract.env} "
            f"{ours.observation_shape} {ours.observation_dtype}"
        )
    if found.entries and found.entries != ours.entries:
        raise UsageError(f"dataset {name} has observations {found}, and {contract.env} {ours}")
    if str(found.actions) != str(ours.actions):
        raise UsageError(f"dataset {name} has actions {found.actions}, and {contract.env} {ours.actions}")


def _known() -> list[str]:
    try:
        with warnings.catch_warnings(action="ignore"):  # of folders that are no datasets
            return list(_minari().list_local_datasets())
    except (FileNotFoundError, ValueError, TypeError):  # there is none; or a folder's name is not a dataset's
        return []


def _minari() -> Any:
    try:
        import minari
        import minari.data_collector
        import minari.storage
    except ImportError:
        raise UsageError("datasets need a package: pip install 'asyncrl[data]'") from None
    return minari


def _observations(spaces: Spaces) -> gym.Box:
    dtype = np.dtype(spaces.observation_dtype)
    return gym.Box(*limits(dtype), spaces.observation_shape, dtype.type)


def _actions(actions: Actions) -> gym.Space[Any]:
    if actions.is_discrete:
        return gym.Discrete(actions.choices[0], start=actions.first[0])
    if actions.is_continuous:
        low, high = (np.array(x, actions.dtype).reshape(actions.shape) for x in (actions.low, actions.high))
        return gym.Box(low, high, actions.shape, np.dtype(actions.dtype).type)
    shape = actions.shape or (actions.parts,)
    return gym.MultiDiscrete(np.array(actions.choices).reshape(shape), start=np.array(actions.first).reshape(shape))
