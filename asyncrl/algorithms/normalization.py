"""Running statistics of observations, returns and values, which the learner keeps in float64 and checkpoints hold.

They follow from the rollouts in the order in which they are learned from, so they are the same on every engine. Networks
have a float32 copy of what they act with (`networks/normalization.py`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from asyncrl.common.sharding import current_shard
from asyncrl.envs import Contract
from asyncrl.envs.rewards import Rewards
from asyncrl.errors import UsageError
from asyncrl.experience.rollout import Rollout
from asyncrl.networks import Normalizer, PopArt, RunningStatistics

__all__ = ["Moments", "Normalization", "ObservationStatistics", "ReturnStatistics", "ValueStatistics"]

EPSILON = 1e-8
"""Added to variances of observations and returns, as in Gymnasium and Stable-Baselines3."""
_CHUNK = 2**17
"""Numbers that are converted at once: few enough for the processor's cache."""
_EXACT = 256
"""Frames of uint8 whose sum of squares float32 holds exactly: 256·255² < 2^24."""


_Module = TypeVar("_Module", bound=nn.Module)


class Moments:
    """Count, mean and sum of squared deviations of arrays [*shape], in float64."""

    def __init__(self, shape: tuple[int, ...] = ()) -> None:
        self.count = 0.0
        self.mean, self.squares = (np.zeros(shape) for _ in range(2))

    def add(self, x: np.ndarray) -> None:
        """Add the arrays `x` [n, *shape] (Chan, Golub and LeVeque 1983, equation 1.5)."""
        rows = max(1, _CHUNK // max(1, self.mean.size))
        if x.dtype == np.uint8:
            for start in range(0, len(x), _EXACT):
                self._add_pixels(x[start : start + _EXACT], rows)
            return
        for start in range(0, len(x), rows):
            part = x[start : start + rows].astype(np.float64)
            mean = part.mean(0)
            self._merge(len(part), mean, np.square(part - mean).sum(0))

    def add_part(self, x: np.ndarray) -> None:
        """Add the numbers `x` [n] of this learner and those of the others that the batch is divided among."""
        shard = current_shard()
        if shard is None:
            self.add(x)
            return
        own = Moments()
        own.add(x)
        moments = torch.from_numpy(np.array([own.count, own.mean, own.squares]))
        for count, mean, squares in shard.all_gather(moments).tolist():
            if count:
                self._merge(count, np.asarray(mean), np.asarray(squares))

    def _add_pixels(self, x: np.ndarray, rows: int) -> None:
        """Add at most 256 arrays of uint8. Sums of their squares are below 2^24, so float32 holds them exactly."""
        total, squares = (np.zeros(self.mean.shape, np.float32) for _ in range(2))
        for start in range(0, len(x), rows):
            part = x[start : start + rows].astype(np.float32)
            total += part.sum(0)
            squares += np.square(part, out=part).sum(0)
        sums = total.astype(np.float64)
        self._merge(len(x), sums / len(x), squares - np.square(sums) / len(x))

    def _merge(self, count: float, mean: np.ndarray, squares: np.ndarray) -> None:
        total, difference = self.count + count, mean - self.mean
        self.mean += difference * (count / total)
        self.squares += squares + np.square(difference) * (self.count * count / total)
        self.count = total

    @property
    def variance(self) -> np.ndarray:
        """[*shape]: the population variance; 0 without any arrays."""
        return np.asarray(self.squares / max(1.0, self.count))

    @property
    def spread(self) -> np.ndarray:
        """[*shape]: √(variance + ε); 1 without any arrays."""
        return np.asarray(np.sqrt(self.variance + EPSILON)) if self.count else np.ones_like(self.mean)

    def state(self) -> dict[str, Tensor]:
        """Return the moments as tensors by name, for `restore`."""
        named = {"count": np.float64(self.count), "mean": self.mean, "squares": self.squares}
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in named.items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.count = float(state["count"])
        self.mean, self.squares = state["mean"].numpy().copy(), state["squares"].numpy().copy()


class ObservationStatistics:
    """Mean and spread of each number of an observation, over all valid steps. Discrete parts have none.

    The frames of a stack share their statistics, because each frame is counted once.
    """

    def __init__(self, contract: Contract) -> None:
        spaces, self._stack = contract.spaces, contract.frame_stack
        self._packed = bool(spaces.entries)
        shape = spaces.observation_shape[1:] if self._stack > 1 else spaces.observation_shape
        self._parts = [(part.nbytes, part.dtype, part.shape if self._packed else shape) for part in spaces.parts]
        seen = spaces.entries[:-1] if spaces.is_masked else spaces.parts  # a mask is not normalized
        kept = [number for number, part in enumerate(seen) if not part.choices]
        self.moments = {number: Moments(self._parts[number][2]) for number in kept}
        """By index into `Spaces.parts`."""

    def add(self, rollout: Rollout) -> None:
        """Add the observations of a rollout's valid steps."""
        first, valid = self._stack - 1, rollout.valid
        self.add_frames(rollout.frames[first : first + len(valid)][valid].numpy())

    def add_frames(self, frames: np.ndarray) -> None:
        """Add single frames [n, *frame], without stacks."""
        if not self._packed:
            self.moments[0].add(frames)
            return
        offset = 0
        for number, (nbytes, dtype, shape) in enumerate(self._parts):
            if number in self.moments:
                part = np.ascontiguousarray(frames[:, offset : offset + nbytes]).view(dtype)
                self.moments[number].add(part.reshape(len(frames), *shape))
            offset += nbytes

    def newest_frames(self, observation: np.ndarray) -> np.ndarray:
        """Return the newest frame of each of the observations [n, *O]."""
        return observation[:, -1] if self._stack > 1 else observation

    def write(self, network: nn.Module) -> None:
        """Copy the statistics into the network's normalizers."""
        for normalizer in _modules(network, Normalizer):
            moments, statistics = self.moments[normalizer.part], normalizer.statistics
            whole = [torch.from_numpy(x).flatten() for x in (moments.mean, moments.spread)]
            repeats = statistics.mean.numel() // len(whole[0])  # the frames of a stack
            mean, spread = (x.repeat(repeats).view(statistics.mean.shape) for x in whole)
            statistics.assign(moments.count, mean, spread)

    def start_from(self, network: nn.Module) -> None:
        """Continue from the statistics in a network's weights."""
        for normalizer in _modules(network, Normalizer):
            moments = self.moments[normalizer.part]
            count, mean, variance = _read(normalizer.statistics)
            size, shape = moments.mean.size, moments.mean.shape
            moments.count = count
            moments.mean, moments.squares = mean[:size].reshape(shape), (variance * count)[:size].reshape(shape)


class ReturnStatistics:
    """The spread of the discounted return G, by which rewards are divided.

    G ← γ·G + r in every valid step, and 0 after an episode's end, for each environment, as in Stable-Baselines3's
    VecNormalize. The mean is not subtracted from rewards.
    """

    def __init__(self, discount: float, actors: int, envs: int) -> None:
        self._discount = discount
        self.moments = Moments()
        self.discounted = np.zeros((actors, envs))
        """[A, B] float64: G after the last rollout of each actor."""

    def add(self, rollout: Rollout, rewards: Rewards) -> None:
        """Add the returns after each step of an actor's next rollout."""
        actor = int(rollout.stamp[1])
        current = np.zeros_like(self.discounted[actor]) if rollout.starts_reset else self.discounted[actor]
        reward = rewards.learned(rollout.reward, rollout.terminated).double().numpy()
        valid, ended = rollout.valid.numpy(), (rollout.done | rollout.terminated).numpy()
        returns = np.empty_like(reward)
        for t in range(len(reward)):
            current = returns[t] = np.where(valid[t], self._discount * current + reward[t], current)
            current = np.where(ended[t], 0.0, current)
        self.moments.add(returns[valid])
        self.discounted[actor] = current

    @property
    def spread(self) -> float:
        """√(variance + ε) of G; 1 before the first rollout."""
        return float(self.moments.spread)

    def state(self) -> dict[str, Tensor]:
        return {**self.moments.state(), "discounted": torch.from_numpy(self.discounted.copy())}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.moments.restore(state)
        self.discounted = state["discounted"].numpy().copy()


class ValueStatistics:
    """Mean μ and spread σ of the value's targets: averages of the updates that forget with the rate β.

    The k-th update has the weight β / (1 − (1 − β)^k) (van Hasselt et al. 2016, section 2.1), so the first updates are
    averaged equally. β and the bounds of σ are those of Hessel et al. (2018, section 5).
    """

    RATE = 3e-4
    BOUNDS = 1e-4, 1e6

    def __init__(self) -> None:
        self.updates = 0
        self.mean, self.variance = 0.0, 1.0
        self._targets = Moments()  # of the update under way

    def add(self, targets: tuple[Tensor, Tensor]) -> bool:
        """Add value targets and their mask, [T, N] each. Returns whether they are the first of the run.

        The first ones become the statistics at once, so that no step is taken on targets of an unknown size.
        """
        is_first = not self.updates and not self._targets.count
        target, valid = targets
        self._targets.add_part(target[valid].double().cpu().numpy())
        if is_first:
            self.mean, self.variance = float(self._targets.mean), float(self._targets.variance)
        return is_first

    def end_update(self) -> None:
        """Average the update's targets into the statistics."""
        if not self._targets.count:
            return
        self.updates += 1
        weight = self.RATE / (1 - (1 - self.RATE) ** self.updates)
        difference = float(self._targets.mean) - self.mean
        spread = weight * (1 - weight) * difference**2  # of the two means
        self.variance = (1 - weight) * self.variance + weight * float(self._targets.variance) + spread
        self.mean += weight * difference
        self._targets = Moments()

    @property
    def spread(self) -> float:
        """σ; 1 until targets differ by more than rounding."""
        deviation, (low, high) = math.sqrt(self.variance), self.BOUNDS
        return 1.0 if deviation <= 1e-6 * abs(self.mean) else min(max(deviation, low), high)

    def write(self, network: nn.Module) -> None:
        """Give the network's value head these statistics; its outputs stay as they are."""
        for head in _modules(network, PopArt):
            mean, spread = (torch.tensor(x, dtype=torch.float64) for x in (self.mean, self.spread))
            head.rescale(self.updates, mean, spread)

    def start_from(self, network: nn.Module) -> None:
        """Continue from the statistics in a network's weights."""
        for head in _modules(network, PopArt):
            count, mean, spread = (float(x) for x in (head.statistics.count, head.statistics.mean, head.statistics.spread))
            self.updates, self.mean, self.variance = int(count), mean, spread**2

    def state(self) -> dict[str, Tensor]:
        values = {"updates": self.updates, "mean": self.mean, "variance": self.variance}
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.updates = int(state["updates"])
        self.mean, self.variance = float(state["mean"]), float(state["variance"])


@dataclass(frozen=True)
class Normalization:
    """The statistics of a run; None for each that is off."""

    observation: ObservationStatistics | None = None
    returns: ReturnStatistics | None = None
    value: ValueStatistics | None = None

    def check(self, network: nn.Module) -> None:
        """Raise UsageError if `network` has no layer that takes the statistics of observations or values."""
        for statistics, layer, option, needed in (
            (self.observation, Normalizer, "--normalize-observation", "an encoder of asyncrl.networks.Body"),
            (self.value, PopArt, "--normalize-value", "the value head of asyncrl.networks.ActorCritic"),
        ):
            if statistics is not None and not _modules(network, layer):
                raise UsageError(f"{option} needs {needed}, which {type(network).__name__} does not have; leave it out")

    def begin_update(self, rollouts: Sequence[Rollout], rewards: Rewards) -> Rewards:
        """Add the rewards of an update's rollouts, each actor's in order. Returns the rewards to learn from."""
        if self.returns is None:
            return rewards
        for rollout in rollouts:
            self.returns.add(rollout, rewards)
        return replace(rewards, spread=self.returns.spread)

    def add_targets(self, targets: tuple[Tensor, Tensor] | None, network: nn.Module, target: nn.Module) -> bool:
        """Add the value targets of a loss. Returns whether they are the run's first, which the networks have at once."""
        if self.value is None or targets is None or not self.value.add(targets):
            return False
        for one in dict.fromkeys((network, target)):
            self.value.write(one)
        return True

    def end_update(self, rollouts: Sequence[Rollout], network: nn.Module, target: nn.Module) -> None:
        """Add the observations of an update's rollouts and its value targets, and give the statistics to the networks.

        A separate target network keeps the observation statistics that were copied with its weights.
        """
        if self.observation is not None:
            for rollout in rollouts:
                self.observation.add(rollout)
            self.observation.write(network)
        if self.value is not None:
            self.value.end_update()
            for one in dict.fromkeys((network, target)):
                self.value.write(one)

    def add_observations(self, observation: np.ndarray, network: nn.Module) -> None:
        """Add observations [N, *O], and give the statistics to `network`."""
        if self.observation is not None:
            self.observation.add_frames(self.observation.newest_frames(observation))
            self.observation.write(network)

    def start_from(self, network: nn.Module) -> None:
        """Continue from the statistics of observations and values in a network's weights."""
        for statistics in (self.observation, self.value):
            if statistics is not None:
                statistics.start_from(network)

    def metrics(self) -> dict[str, Tensor]:
        """Return the statistics that are single numbers."""
        found = {} if self.returns is None else {"return_std": self.returns.spread}
        if self.value is not None:
            found |= {"value_mean": self.value.mean, "value_std": self.value.spread}
        return {name: torch.tensor(value, dtype=torch.float32) for name, value in found.items()}

    def state(self) -> dict[str, Tensor]:
        """Return all statistics as tensors by name, for `restore`."""
        return {f"{prefix}.{name}": x for prefix, one in self._named().items() for name, x in one.state().items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Continue with the result of `state`."""
        for prefix, one in self._named().items():
            start = f"{prefix}."
            one.restore({name.removeprefix(start): x for name, x in state.items() if name.startswith(start)})

    def _named(self) -> dict[str, Moments | ReturnStatistics | ValueStatistics]:
        observed = {} if self.observation is None else self.observation.moments
        found: dict[str, Any] = {f"observation.{part}": moments for part, moments in observed.items()}
        found |= {"return": self.returns} if self.returns is not None else {}
        return found | ({"value": self.value} if self.value is not None else {})


def _modules(network: nn.Module, kind: type[_Module]) -> list[_Module]:
    return [module for module in network.modules() if isinstance(module, kind)]


def _read(statistics: RunningStatistics) -> tuple[float, np.ndarray, np.ndarray]:
    """Return count, mean and variance of observations, [*shape] flattened, float64."""
    mean, spread = (x.detach().cpu().double().numpy().ravel() for x in (statistics.mean, statistics.spread))
    return float(statistics.count), mean, np.maximum(0.0, np.square(spread) - EPSILON)
