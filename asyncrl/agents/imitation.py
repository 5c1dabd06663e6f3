"""Behavioural cloning: train a policy, or action values, to reproduce recorded actions (Pomerleau 1991)."""

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
from asyncrl.networks import ActionValues

__all__ = ["CloningOptions", "Epoch", "clone"]


@dataclass(frozen=True)
class CloningOptions:
    """Options of behavioural cloning."""

    imitation_epochs: int = 100
    """Maximum passes through the data."""
    imitation_batch: int = 256
    """Steps per minibatch."""
    imitation_rate: float = 1e-3
    """Learning rate of Adam."""
    validation: float = 0.1
    """Fraction of the episodes held out for validation; at least one episode, and not all."""
    patience: int = 5
    """Stop after this many epochs without a better validation loss."""

    def check(self) -> None:
        """Raise UsageError if a number is out of range."""
        within(self, 1, math.inf, "imitation_epochs", "imitation_batch", "patience")
        within(self, 0, math.inf, "imitation_rate", above=True)
        if not 0 < self.validation < 1:
            raise UsageError(f"--validation must be above 0 and below 1, not {self.validation}")


class Epoch(NamedTuple):
    """Results of one pass through the data."""

    number: int
    """From 1."""
    loss: float
    """Mean cross-entropy on the training episodes, in nats per step."""
    validation_loss: float
    """The same on the held-out episodes."""
    agreement: float | None
    """Fraction of held-out steps whose most probable action is the recorded one; None for continuous actions."""


def clone(
    learner: Learner,
    contract: Contract,
    episodes: Sequence[Demonstration],
    options: CloningOptions,
    seed: int,
    on_epoch: Callable[[Epoch], None],
    should_stop: Callable[[], bool] = lambda: False,
) -> Epoch:
    """Train the learner's network to predict the recorded actions, minimizing the cross-entropy −log π(a|s).

    Action values are treated as logits. The network ends with the weights of the epoch with the least validation loss,
    which is returned. After each epoch `on_epoch` is called with it; then a true `should_stop()` ends the training.
    There are two `episodes` or more. Raises DivergenceError if the loss is not finite.
    """
    random = generator(seed, Stream.LEARNER)
    order = torch.randperm(len(episodes), generator=random).tolist()
    held_out = min(max(1, round(options.validation * len(episodes))), len(episodes) - 1)
    validation = _steps([episodes[i] for i in order[:held_out]], contract)
    training = _steps([episodes[i] for i in order[held_out:]], contract)
    learner.observe(training.observation.numpy())
    optimizer = torch.optim.Adam(learner.network.parameters(), options.imitation_rate)
    best = Epoch(0, math.inf, math.inf, None)
    best_weights = learner.weights.clone()
    for number in range(1, options.imitation_epochs + 1):
        loss = _train_epoch(learner.network, optimizer, training, options.imitation_batch, random)
        validation_loss, agreement = _validate(learner.network, validation)
        if not (math.isfinite(loss) and math.isfinite(validation_loss)):
            raise DivergenceError(
                f"the loss of epoch {number} is not finite; lower --imitation-rate, which is {options.imitation_rate:g}"
            )
        epoch = Epoch(number, loss, validation_loss, None if contract.spaces.actions.is_continuous else agreement)
        on_epoch(epoch)
        if epoch.validation_loss < best.validation_loss:
            best = epoch
            best_weights = learner.weights.clone()
        elif number - best.number >= options.patience:
            break
        if should_stop():
            break
    learner.load_weights(best_weights)
    return best


class _Steps(NamedTuple):
    """N recorded steps."""

    observation: Tensor
    """[N, *O], standardized."""
    action: Tensor
    """[N, …]"""


def _steps(episodes: Sequence[Demonstration], contract: Contract) -> _Steps:
    """Return all steps of the episodes."""
    observation = contract.standardized(np.concatenate([episode.observation[:-1] for episode in episodes]))
    action = np.concatenate([episode.action for episode in episodes])
    return _Steps(torch.from_numpy(observation), torch.from_numpy(action))


def _train_epoch(
    network: nn.Module, optimizer: torch.optim.Optimizer, steps: _Steps, batch_size: int, random: torch.Generator
) -> float:
    """Train on every step once, in random order; return the mean of the steps' losses, each before its minibatch's step."""
    total = 0.0
    for index in torch.split(torch.randperm(len(steps.action), generator=random), batch_size):
        optimizer.zero_grad(set_to_none=False)
        loss = _cross_entropy(network, steps.observation[index], steps.action[index])[0].mean()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        total += loss.item() * len(index)
    return total / len(steps.action)


@torch.no_grad()
def _validate(network: nn.Module, steps: _Steps) -> tuple[float, float]:
    """Return the mean loss, and the fraction of steps whose most probable action is the recorded one."""
    batches = zip(torch.split(steps.observation, 1024), torch.split(steps.action, 1024), strict=True)
    losses, agreements = zip(*(_cross_entropy(network, *batch) for batch in batches), strict=True)
    return torch.cat(losses).float().mean().item(), torch.cat(agreements).float().mean().item()


def _cross_entropy(network: nn.Module, observation: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
    """Return −log π(a|s) [N], and [N] bool: whether the most probable action is the recorded one."""
    size: Any = network.state_size
    device = next(network.parameters()).device
    observation, action = observation.to(device), action.to(device)
    output = network(observation[None], torch.zeros(len(observation), size, dtype=torch.float32, device=device))
    if isinstance(output, ActionValues):
        q = output.q[0]
        return F.cross_entropy(q, action, reduction="none"), q.argmax(-1) == action
    agrees = output.policy.mode()[0] == action
    return -output.policy.log_prob(action[None])[0], agrees.flatten(1).all(1) if action.dim() > 1 else agrees
