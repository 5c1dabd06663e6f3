"""Behavioural cloning: a policy, or action values, that do what was recorded (Pomerleau 1991)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from asyncrl.acting.datasets import Demonstration
from asyncrl.common.randomness import Stream, generator
from asyncrl.common.validation import within
from asyncrl.envs import Contract
from asyncrl.errors import DivergenceError, UsageError
from asyncrl.learner import Learner
from asyncrl.networks import PolicyValue

__all__ = ["CloningOptions", "Epoch", "clone"]


@dataclass(frozen=True)
class CloningOptions:
    """How long to imitate, and when that is enough."""

    imitation_epochs: int = 100
    """Times to go through the data, at most."""
    imitation_batch: int = 256
    """Steps of one step of the optimizer."""
    imitation_rate: float = 1e-3
    """Learning rate of Adam."""
    validation: float = 0.1
    """Share of the episodes that are not learned from; one or more."""
    patience: int = 5
    """Epochs without a better loss on those after which it is enough."""

    def check(self) -> None:
        """Raise UsageError for numbers out of range."""
        within(self, 1, math.inf, "imitation_epochs", "imitation_batch", "patience")
        within(self, 0, math.inf, "imitation_rate", above=True)
        if not 0 < self.validation < 1:
            raise UsageError(f"--validation must lie between 0 and 1, not {self.validation}")


class Epoch(NamedTuple):
    """What came of one time through the data."""

    number: int
    loss: float
    """nats a step, on what was learned from"""
    validation_loss: float
    """on the other episodes"""
    agreement: float | None
    """Share of their steps in which the most probable action is the recorded one; None where actions are numbers"""


def clone(
    learner: Learner,
    contract: Contract,
    episodes: Sequence[Demonstration],
    options: CloningOptions,
    seed: int,
    note: Callable[[Epoch], None],
    enough: Callable[[], bool] = lambda: False,
) -> Epoch:
    """Let `learner`'s network do what was recorded: least cross-entropy on episodes it has not learned from.

    Action values are taken as logits. Returns the best epoch, whose weights the network has then. After each epoch `note`
    is told, and `enough` is asked whether to stop.
    """
    options.check()
    if len(episodes) < 2:
        raise UsageError("imitation takes two episodes or more: one of them tells when it is enough")
    random = generator(seed, Stream.LEARNER)
    order = torch.randperm(len(episodes), generator=random).tolist()
    held_out = max(1, round(options.validation * len(episodes)))
    test, train = (_steps([episodes[i] for i in part], contract) for part in (order[:held_out], order[held_out:]))
    network = learner.network
    optimizer = torch.optim.Adam(network.parameters(), options.imitation_rate)
    best, weights = Epoch(0, np.inf, np.inf, None), learner.weights.clone()
    for number in range(1, options.imitation_epochs + 1):
        losses = []
        for part in torch.split(torch.randperm(len(train[1]), generator=random), options.imitation_batch):
            optimizer.zero_grad(set_to_none=False)
            loss = _surprise(network, train[0][part], train[1][part])[0].mean()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(loss.item())
        with torch.no_grad():
            parts = [_surprise(network, *part) for part in zip(*(torch.split(x, 1024) for x in test), strict=True)]
        surprise, agreement = (torch.cat(x).float().mean().item() for x in zip(*parts, strict=True))
        if not (np.isfinite(losses).all() and np.isfinite(surprise)):
            raise DivergenceError(
                f"the loss of epoch {number} is not finite; lower --imitation-rate, which is {options.imitation_rate:g}"
            )
        told = None if contract.spaces.actions.is_continuous else agreement
        epoch = Epoch(number, float(np.mean(losses)), surprise, told)
        note(epoch)
        if epoch.validation_loss < best.validation_loss:
            best, weights = epoch, learner.weights.clone()
        elif number - best.number >= options.patience:
            break
        if enough():
            break
    learner.load_weights(weights)
    return best


def _steps(episodes: Sequence[Demonstration], contract: Contract) -> tuple[Tensor, Tensor]:
    """Observations [N, *O] as networks see them and actions [N, …] of all steps."""
    seen = contract.standardized(np.concatenate([one.observation[:-1] for one in episodes]))
    return torch.from_numpy(seen), torch.from_numpy(np.concatenate([one.action for one in episodes]))


def _surprise(network: nn.Module, observation: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
    """[N] −log π(a|s), and [N] whether the most probable action is the recorded one."""
    size: Any = network.state_size
    said = network(observation[None], torch.zeros(len(observation), size, dtype=torch.float32))
    if isinstance(said, PolicyValue):
        agreed = (
            (said.policy.mode()[0] == action).flatten(1).all(1) if action.dim() > 1 else said.policy.mode()[0] == action
        )
        return -said.policy.log_prob(action[None])[0], agreed
    return F.cross_entropy(said.q[0], action, reduction="none"), said.q[0].argmax(-1) == action
