"""The part of the Ray engine that runs on the nodes: an actor in a separate process."""

from __future__ import annotations

import pickle
import traceback

import numpy as np
import torch
from torch import Tensor

from asyncrl.acting.actor import ActorSpec
from asyncrl.acting.playback import RolloutSource, open_actor
from asyncrl.cluster.connection import WorkerSetup
from asyncrl.common.hidden_warnings import hidden_warnings
from asyncrl.common.randomness import seed_process
from asyncrl.common.torch_setup import set_torch_threads
from asyncrl.engines.memory import fill
from asyncrl.envs import sources
from asyncrl.errors import ActorDied, AsyncRLError
from asyncrl.experience.rollout import Layout, Ticket

__all__ = ["RemoteActor", "view"]


def view(array: np.ndarray) -> Tensor:
    """A tensor that shares the memory of an array in the object store. Nobody may write to it."""
    with hidden_warnings():  # torch has no read-only tensors
        return torch.from_numpy(array)


class RemoteActor:
    """Actor `index`. Its methods return errors as values, because Ray adds tracebacks to those that are raised."""

    def __init__(self, index: int) -> None:
        self._index = index
        self._actor: RolloutSource

    def ping(self) -> None:
        """Return as soon as the process runs."""

    def open(self, setup: WorkerSetup, task: bytes, env_id: str) -> AsyncRLError | None:
        """Make the environments and the policy. `task`: the pickled ActorSpec and Layout."""
        set_torch_threads(1)
        setup.enter()
        try:
            sources.install(setup.code, env_id)
            spec, layout = pickle.loads(task)
            self._open(spec, layout)
        except AsyncRLError as error:
            return error
        except Exception:
            return self._failed()
        return None

    def _open(self, spec: ActorSpec, layout: Layout) -> None:
        seed_process(spec.seed, self._index)
        self._memory = torch.zeros(layout.nbytes, dtype=torch.uint8)
        self._slot = layout.slot(self._memory, 0)
        self._actor = open_actor(spec, self._index)

    def collect(self, ticket: Ticket, version: int, weights: np.ndarray) -> np.ndarray | AsyncRLError:
        """Return the ticket's rollout [bytes] uint8, collected with these weights [P] float32, which are `version`."""

        def load() -> int:
            self._actor.policy.load(view(weights))
            return version

        try:
            fill(self._slot, self._actor, ticket, load)
        except AsyncRLError as error:
            return error
        except Exception:
            return self._failed()
        return self._memory.numpy()

    def close(self) -> None:
        """Close the environments."""
        self._actor.close()

    def _failed(self) -> ActorDied:
        return ActorDied(f"actor {self._index} failed:\n{traceback.format_exc()}")
