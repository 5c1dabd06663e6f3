"""Base of the methods that learn action values from a replay buffer."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor

from asyncrl.algorithms.exploration import Exploration
from asyncrl.algorithms.munchausen import Munchausen
from asyncrl.algorithms.optimizers import LearningRateSchedule, Optimizer, OptimizerConfig
from asyncrl.algorithms.value_based import ValueBasedMethod
from asyncrl.common.search_space import Choices
from asyncrl.common.validation import within
from asyncrl.envs.spaces import Spaces
from asyncrl.errors import UsageError
from asyncrl.experience import OffPolicy, PreparedSample, ReplayOptions, Sample, SequenceOptions, Unroll
from asyncrl.networks import ActionValues, NetworkConfig, Recurrent

__all__ = ["Forward", "ReplayBasedQLearning", "current_outputs", "gather_action", "next_outputs", "q_outputs"]


def _default_exploration() -> Exploration:
    return Exploration(final_epsilons=(0.01,), final_epsilon_probabilities=(1.0,))


_NO_MUNCHAUSEN = Munchausen()


@dataclass(frozen=True)
class ReplayBasedQLearning(ValueBasedMethod):
    """Many actors fill one replay buffer, from which one learner samples. Subclasses define the loss.

    The target of a step bootstraps after n steps, or earlier where the episode ends, from the action a*:

        y = Σ_{k<n} γ^k·r_k + γ^n·Q(s_n, a*; θ⁻)
        a* = argmax_a Q(s_n, a; θ⁻) (Mnih et al. 2015), or
        a* = argmax_a Q(s_n, a; θ) if `double` (van Hasselt et al. 2016, equation 4)

    With prioritized replay and `--epsilon-assignment ladder` this is Ape-X (Horgan et al. 2018).
    """

    optimizer: ClassVar[OptimizerConfig] = OptimizerConfig(
        Optimizer.ADAM,
        1e-4,
        learning_rate_schedule=LearningRateSchedule.CONSTANT,
        decay=0.999,
        optimizer_epsilon=1.5e-4,
        max_gradient_norm=10.0,
    )

    t_max: int = 4
    """Steps per rollout."""
    double: bool = False
    """Double Q-learning: the online network selects the bootstrap action, the target network evaluates it (van Hasselt et
    al. 2016)."""
    n_step: Annotated[int, Choices(1, 3, 5)] = 1
    """Rewards summed before bootstrapping (n-step returns, Sutton 1988)."""
    tau: float = 0.0
    """Polyak averaging: fraction τ by which the target network moves towards the network after each gradient step."""
    exploration: Exploration = field(default_factory=_default_exploration)
    replay: ReplayOptions = field(default_factory=ReplayOptions)
    sequences: SequenceOptions = field(default_factory=SequenceOptions)

    def check(self, spaces: Spaces, network: NetworkConfig) -> None:
        super().check(spaces, network)
        within(self, 1, math.inf, "n_step")
        within(self, 0, 1, "tau")
        self.replay.check(self.n_step)
        self.sequences.check()
        self.munchausen.check()
        is_recurrent = network.recurrent is not Recurrent.NONE
        if is_recurrent and not self.sequences.sequence_length:
            raise UsageError(
                f"--recurrent {network.recurrent.value} learns from sequences of steps: --sequence-length must be 1 or more"
            )
        if self.sequences.sequence_length and not is_recurrent:
            raise UsageError(
                f"--sequence-length {self.sequences.sequence_length} is for recurrent networks; add --recurrent lstm, or "
                "leave it out"
            )

    @property
    def munchausen(self) -> Munchausen:
        """Settings of Munchausen targets; off for methods that do not have them."""
        return getattr(self, "munchausen_targets", _NO_MUNCHAUSEN)

    def experience(self) -> OffPolicy:
        sequences = self.sequences if self.sequences.sequence_length else None
        return OffPolicy(self.t_max, n_step=self.n_step, replay=self.replay, sequences=sequences)

    def prepare(self, network: Any, target: Any, batch: Sample) -> PreparedSample:
        """Add the target network's outputs for `next_observation`, and the Munchausen bonus to the first reward."""
        output = next_outputs(target, batch)
        return self.with_bonus(target, batch).with_targets(target_q=output.q[0], target_outputs=output.outputs[0])

    def with_bonus(self, target: Any, batch: Sample) -> Sample:
        """Return the sample with the Munchausen bonus in the first step's reward, if that is asked for."""
        if not self.munchausen.munchausen:
            return batch
        bonus = self.munchausen.bonus(current_outputs(target, batch).q[0], batch.action)
        return replace(batch, reward=torch.cat([batch.reward[:1] + bonus, batch.reward[1:]]))

    def target_outputs(self, network: Any, sample: PreparedSample) -> Tensor:
        """Return the target network's outputs [N, K] for the bootstrap action a* in `sample.next_observation`.

        With Munchausen targets, the outputs' mean over the actions of the soft policy, plus its entropy.
        """
        q = next_outputs(network, sample).q[0] if self.double else sample.target_q
        if self.munchausen.munchausen:
            return self.munchausen.soft_value(q, sample.target_outputs)
        return gather_action(sample.target_outputs, q.argmax(-1))


Forward = Callable[[Tensor, Tensor, Tensor | None], ActionValues]
"""A network's pass over (observation [T, N, *O], state [N, S], valid [T, N])."""


def current_outputs(forward: Forward, sample: Sample) -> ActionValues:
    """Return the outputs [1, N, …] for the first observations of the transitions."""
    if sample.unroll is None:
        return q_outputs(forward, sample.observation)
    unroll, steps = sample.unroll, slice(sample.unroll.burn_in, sample.unroll.burn_in + sample.unroll.length)
    return _flat(forward(unroll.observation[steps], _burned_in(forward, unroll), unroll.valid[steps]))


def next_outputs(forward: Forward, sample: Sample) -> ActionValues:
    """Return the outputs [1, N, …] for the last observations of the transitions, from which targets bootstrap."""
    if sample.unroll is None:
        return q_outputs(forward, sample.next_observation)
    unroll, steps = sample.unroll, slice(sample.unroll.burn_in, None)
    q, outputs, state = _flat(forward(unroll.observation[steps], _burned_in(forward, unroll), unroll.valid[steps]))
    return ActionValues(q[:, unroll.later], outputs[:, unroll.later], state)


def q_outputs(forward: Forward, observation: Tensor) -> ActionValues:
    """Return a feed-forward network's outputs for single steps `observation` [N, *O], as a sequence of length T = 1."""
    state = torch.zeros(len(observation), 0, dtype=torch.float32, device=observation.device)
    return forward(observation[None], state, None)


@torch.no_grad()
def _burned_in(forward: Forward, unroll: Unroll) -> Tensor:
    """Return the recurrent state [M, S] after the burn-in."""
    steps = slice(unroll.burn_in)
    return forward(unroll.observation[steps], unroll.state, unroll.valid[steps]).state if unroll.burn_in else unroll.state


def _flat(output: ActionValues) -> ActionValues:
    """Return the outputs [1, T·N, …] of sequences [T, N, …]."""
    return ActionValues(output.q.flatten(0, 1)[None], output.outputs.flatten(0, 1)[None], output.state)


def gather_action(x: Tensor, action: Tensor) -> Tensor:
    """Return the entries [N, …] of `x` [N, A, …] that belong to `action` [N] int64."""
    index = action.view(-1, *[1] * (x.dim() - 1)).expand(-1, 1, *x.shape[2:])
    return x.gather(1, index).squeeze(1)  # the gradient of an index would take five times as long
