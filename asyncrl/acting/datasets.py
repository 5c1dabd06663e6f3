"""Recorded episodes as Minari datasets (minari.farama.org), and back."""

from __future__ import annotations

import contextlib
import errno
import itertools
import math
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces as gym

from asyncrl.acting.episodes import PlayableEnv, Player, SingleEnv, play_episode
from asyncrl.common.dtypes import limits
from asyncrl.common.file_lock import AlreadyLocked, file_lock
from asyncrl.common.folders import new_folders
from asyncrl.common.hidden_warnings import hidden_warnings
from asyncrl.common.os_errors import attach_path, name_target
from asyncrl.common.randomness import Stream, environment_seeds
from asyncrl.common.serialization import parse_json, read_json
from asyncrl.envs import Contract, contract_lines
from asyncrl.envs.space_reading import spaces_of
from asyncrl.envs.spaces import Actions, MaskSource, Spaces, pack
from asyncrl.errors import UsageError, continued, suggestions

__all__ = ["Demonstration", "check", "check_name_free", "read", "record", "write"]

_NAME = re.compile(r"([-\w][-\w/]*[-\w]/)?[-\w]+-v\d+", re.ASCII)
"""Minari's rule for names: a namespace has at least two characters."""
_NAME_RULE = "NAME-v0 or NAMESPACE/NAME-v0, of letters, digits, - and _, the namespace of two or more"
_MAX_EPISODES = 10_000_000
_MAX_SPACE_SIZE = 1_000_000
"""Numbers in one observation or action."""
_EPISODE_OVERHEAD = 32_768
"""Bytes of a file beside each episode's arrays, at most; about half of it is used."""


@dataclass(frozen=True)
class Demonstration:
    """One recorded episode of T steps."""

    observation: np.ndarray
    """[T+1, *O], before standardization."""
    action: np.ndarray
    """[T, …], encoded as a policy's (`Actions`)."""
    reward: np.ndarray
    """[T] float32, unclipped."""
    terminated: bool
    """Whether the episode terminated; False if it was truncated."""

    @property
    def score(self) -> float:
        """The episode's return."""
        return float(self.reward.sum())


def record(
    player: Player,
    contract: Contract,
    episodes: int,
    seed: int,
    env: PlayableEnv | None = None,
    *,
    limit: int | None = None,
) -> Iterator[Demonstration]:
    """Yield `episodes` episodes of `player`, each truncated after `limit` steps.

    They are played in `env` or, without one, in a new environment under `contract`.
    """
    with contextlib.ExitStack() as stack:
        if env is None:
            env = stack.enter_context(contextlib.closing(SingleEnv(contract)))
        for episode_seed in environment_seeds(seed, Stream.EVALUATION, episodes):
            steps = list(itertools.islice(play_episode(player, env, env.reset(episode_seed)), limit))
            yield Demonstration(
                observation=np.concatenate([*(step.observation for step in steps), steps[-1].next_observation]),
                action=np.concatenate([step.action for step in steps]),
                reward=np.array([step.reward for step in steps], np.float32),
                terminated=steps[-1].terminated,
            )


def check_name_free(name: str) -> None:
    """Raise UsageError if `name` is malformed or already a dataset's."""
    minari = _minari()
    _check_name(name)
    if minari.storage.get_dataset_path(name).exists():
        raise UsageError(f"dataset {name} already exists; choose another name")


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise UsageError(f"dataset {name}: the name must be {_NAME_RULE}")


def write(name: str, contract: Contract, episodes: Sequence[Demonstration], player: str) -> None:
    """Write a new dataset; `player` names its author. What a killed process has left of one is removed.

    Raises UsageError if the name is malformed or taken: datasets are never overwritten.
    """
    check_name_free(name)
    minari = _minari()
    folder = Path(minari.storage.get_dataset_path(name))
    actions = contract.spaces.actions
    buffers = [
        minari.data_collector.EpisodeBuffer(
            id=i,
            observations=episode.observation,
            actions=actions.for_environment(episode.action),
            rewards=episode.reward,
            terminations=_last_step(len(episode.reward)) & episode.terminated,
            truncations=_last_step(len(episode.reward)) & (not episode.terminated),
            infos={},
        )
        for i, episode in enumerate(episodes)
    ]
    arrays = [(one.observations, one.actions, one.rewards, one.terminations, one.truncations) for one in buffers]
    metadata = {
        "dataset_id": name,
        "algorithm_name": player,
        "description": f"{contract.env}, recorded by asyncrl: " + "; ".join(contract_lines(contract)),
        "minari_version": minari.__version__,
    }
    with attach_path(folder), _new_folder(name, folder) as new:
        _check_room(new, sum(_EPISODE_OVERHEAD + sum(array.nbytes for array in episode) for episode in arrays))
        try:
            if "/" in name and (namespace := name.rpartition("/")[0]) not in minari.namespace.list_local_namespaces():
                minari.namespace.create_namespace(namespace)
            storage = minari.dataset.minari_storage.MinariStorage.new(
                new / "data",
                observation_space=_observation_space(contract.spaces),
                action_space=_action_space(actions),
                jpeg_encoding=False,  # which loses details of some images and cannot encode others
            )
            storage.update_metadata(metadata)
            storage.update_episodes(buffers)
        except ValueError as error:
            raise UsageError(f"dataset {name}: {error}") from None


def _check_room(folder: Path, nbytes: int) -> None:
    """Raise OSError if the disk has no room for a file of this size. HDF5 would crash the process while writing it."""
    if hasattr(os, "posix_fallocate"):  # not on macOS and Windows
        with tempfile.TemporaryFile(dir=folder) as file:
            os.posix_fallocate(file.fileno(), 0, max(nbytes, 1))
    elif shutil.disk_usage(folder).free < nbytes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextlib.contextmanager
def _new_folder(name: str, folder: Path) -> Iterator[Path]:
    """A hidden folder that Minari does not list; it becomes `folder` if the block ends without an error."""
    temporary = folder.with_name(f".{folder.name}.tmp")
    try:
        with name_target(folder, temporary), new_folders(temporary), file_lock(temporary / "lock"):
            try:
                shutil.rmtree(temporary / folder.name, ignore_errors=True)  # may be left from a crash
                (temporary / folder.name).mkdir()
                yield temporary / folder.name
                (temporary / folder.name).rename(folder)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    except AlreadyLocked as lock:
        raise UsageError(f"dataset {name} is being recorded by {lock}; choose another name") from None


def _last_step(steps: int) -> np.ndarray:
    """[T] bool: True in the last place."""
    return np.asarray(np.arange(steps) == steps - 1)


def check(name: str, contract: Contract) -> None:
    """Raise UsageError if a dataset is missing or its spaces differ from the contract's. Episodes are not read."""
    with _translate_errors(name):
        _open(name, contract)


def read(name: str, contract: Contract) -> list[Demonstration]:
    """Return the episodes of a dataset. Raises UsageError if it is missing, damaged, empty, or has other spaces."""
    with _translate_errors(name):
        dataset, spaces = _open(name, contract)
        episodes = [_demonstration(one, spaces, contract.spaces) for one in dataset.iterate_episodes() if len(one.rewards)]
    if not episodes:
        raise UsageError(f"dataset {name} is empty")
    return episodes


def _demonstration(episode: Any, recorded: Spaces, expected: Spaces) -> Demonstration:
    """Convert a Minari episode of the `recorded` spaces. Raises ValueError if it is not one of the `expected` spaces."""
    steps = len(episode.rewards)
    demonstration = Demonstration(
        pack(recorded, episode.observations, check=True),
        expected.actions.of_policy(np.asarray(episode.actions)),
        np.asarray(episode.rewards, np.float32),
        bool(episode.terminations[-1]),
    )
    observation, action, reward = demonstration.observation, demonstration.action, demonstration.reward
    if observation.shape != (steps + 1, *expected.observation_shape):
        raise ValueError(f"episode {episode.id} has observations {observation.shape} for {steps} steps")
    if len(action) != steps or not all(map(expected.actions.is_valid, action)):
        raise ValueError(f"episode {episode.id} must have one action of {expected.actions} per step")
    if not expected.allows(action, observation[:-1]).all():
        raise ValueError(f"episode {episode.id} has an action that the action mask of its step forbids")
    if reward.ndim != 1 or not np.isfinite(reward).all():
        raise ValueError(f"episode {episode.id} has rewards that are not finite numbers")
    if np.dtype(expected.observation_dtype).kind == "f" and not np.isfinite(observation).all():
        raise ValueError(f"episode {episode.id} has observations that are not finite")
    return demonstration


def _open(name: str, contract: Contract) -> tuple[Any, Spaces]:
    """Open a dataset; return it with its spaces. The files are checked first, as they may come from anyone."""
    minari = _minari()
    _check_name(name)
    folder = Path(minari.storage.get_dataset_path(name)) / "data"
    if not folder.exists():
        raise FileNotFoundError(folder)
    _check_metadata(folder / "metadata.json")
    if (file := folder / "main_data.hdf5").exists():
        _check_hdf5(file)
    dataset = minari.load_dataset(name)
    has_mask = isinstance(dataset.observation_space, gym.Dict) and "action_mask" in dataset.observation_space.spaces
    mask = contract.spaces.action_mask if has_mask else MaskSource.NONE
    spaces = spaces_of(name, dataset.observation_space, dataset.action_space, mask)
    _compare(name, spaces, contract)
    return dataset, spaces


def _check_metadata(path: Path) -> None:
    """Raise ValueError if metadata lack a field that is needed, or claim sizes beyond reason.

    Without spaces in the metadata Minari would create the environment that they name, and so run its code.
    """
    metadata = read_json(path)
    metadata = metadata if isinstance(metadata, dict) else {}
    for name, kind in {"observation_space": str, "action_space": str, "total_episodes": int, "total_steps": int}.items():
        if not isinstance(metadata.get(name), kind):
            raise ValueError(f"{path} has no valid {name}")
    if not 0 <= metadata["total_episodes"] <= _MAX_EPISODES:
        raise ValueError(
            f"{path}: total_episodes must be between 0 and {_MAX_EPISODES:,}, not {metadata['total_episodes']}"
        )
    for name in ("observation_space", "action_space"):
        _check_space(parse_json(metadata[name]))


def _check_space(space: Any) -> None:
    """Raise ValueError if a space (as JSON) is malformed or larger than any observation or action."""
    if not isinstance(space, dict):
        raise ValueError("a space must be a JSON object")
    subspaces = space.get("subspaces", [])
    for subspace in subspaces.values() if isinstance(subspaces, dict) else subspaces:
        _check_space(subspace)
    n = space.get("n") if space.get("type") == "MultiBinary" else []
    if math.prod(n if isinstance(n, list) else [n]) > _MAX_SPACE_SIZE:
        raise ValueError(f"a MultiBinary space has n = {n}, more than {_MAX_SPACE_SIZE:,}")


def _check_hdf5(path: Path) -> None:
    """Raise ValueError if a file would take more memory than is free, or refers to other files."""
    import h5py
    import psutil

    if path.is_symlink() or not path.is_file():  # HDF5 would search a device or a pipe forever
        raise ValueError(f"{path} is not a plain file")
    with h5py.File(path, "r") as file:
        nbytes = 0

        def visit(name: str, item: Any) -> None:
            nonlocal nbytes
            if isinstance(item, h5py.Group):
                for key in item:
                    if not isinstance(item.get(key, getlink=True), h5py.HardLink):
                        raise ValueError(f"{name}/{key} is a link")
                return
            if item.external is not None or item.is_virtual:
                raise ValueError(f"{name} is stored in another file")
            nbytes += item.nbytes

        visit("", file)
        file.visititems(visit)
    if nbytes > (free := psutil.virtual_memory().available):
        raise ValueError(f"{path} needs {nbytes / 1e9:,.1f} GB of memory; {free / 1e9:,.1f} GB are free")


@contextlib.contextmanager
def _translate_errors(name: str) -> Iterator[None]:
    """Turn the errors of Minari, h5py and Pillow on a bad dataset into UsageError."""
    try:
        yield
    except FileNotFoundError:
        sentence = f"dataset {name} was not found{suggestions(name, _local_datasets())}"
        raise UsageError(continued(sentence, f"to download it: minari download {name}")) from None
    except UsageError:
        raise
    except ValueError as error:
        raise UsageError(f"dataset {name}: {error}") from None
    except Exception as error:
        raise UsageError(f"dataset {name} is damaged: {type(error).__name__}: {error}") from None


def _compare(name: str, recorded: Spaces, contract: Contract) -> None:
    """Raise UsageError if the spaces of a dataset are not the contract's."""
    expected = contract.spaces
    shape, dtype = recorded.observation_shape, recorded.observation_dtype
    if (shape, dtype) != (expected.observation_shape, expected.observation_dtype):
        raise UsageError(
            f"dataset {name} has observations {shape} {dtype}, but {contract.env} has "
            f"{expected.observation_shape} {expected.observation_dtype}"
        )
    if recorded.entries and recorded.entries != expected.entries:
        raise UsageError(f"dataset {name} has observations {recorded}, but {contract.env} has {expected}")
    if str(recorded.actions) != str(expected.actions):
        raise UsageError(f"dataset {name} has actions {recorded.actions}, but {contract.env} has {expected.actions}")


def _local_datasets() -> list[str]:
    try:
        with hidden_warnings():  # about folders that are not datasets
            return list(_minari().list_local_datasets())
    except (FileNotFoundError, ValueError, TypeError):  # there are none, or a folder has an impossible name
        return []


def _minari() -> Any:
    try:
        import minari
        import minari.data_collector
        import minari.dataset.minari_storage
        import minari.namespace
        import minari.storage
    except ImportError:
        raise UsageError("datasets need a package: pip install 'asyncrl[data]'") from None
    return minari


def _observation_space(spaces: Spaces) -> gym.Box:
    dtype = np.dtype(spaces.observation_dtype)
    return gym.Box(*limits(dtype), spaces.observation_shape, dtype.type)


def _action_space(actions: Actions) -> gym.Space[Any]:
    if actions.is_discrete:
        return gym.Discrete(actions.choices[0], start=actions.first[0])
    if actions.is_continuous:
        low, high = (np.array(x, actions.dtype).reshape(actions.shape) for x in (actions.low, actions.high))
        return gym.Box(low, high, actions.shape, np.dtype(actions.dtype).type)
    shape = actions.shape or (actions.parts,)
    return gym.MultiDiscrete(np.array(actions.choices).reshape(shape), start=np.array(actions.first).reshape(shape))
