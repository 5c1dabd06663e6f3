"""The replay buffer. It stores every frame once, and assembles frame stacks and n-step transitions when sampling."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from asyncrl.envs.rewards import Rewards
from asyncrl.experience.options import ReplayPlan, SequenceOptions
from asyncrl.experience.priorities import SumTree
from asyncrl.experience.rollout import Rollout
from asyncrl.experience.samples import Sample, Unroll

__all__ = ["ReplayBuffer"]

_MAX_BATCHES = 16
"""Batches sampled at once: one large sample costs less than many small ones."""

_MAX_BYTES = 4 * 2**20
"""Bytes of observations sampled at once, so that they are still in the processor's cache when they are learned from."""


class ReplayBuffer:
    """A ring buffer of rows for each environment; row t holds the frame, action, reward and flags of step t.

    Rows are copied from rollouts, including reset steps, which hold an episode's last observation. So next
    observations need no extra storage. Rows are numbered from the beginning of the run. The newest row holds a frame
    only: its action is not taken yet.
    """

    def __init__(self, plan: ReplayPlan, device: torch.device | str = "cpu") -> None:
        """`device` is the learner's; with storage "gpu", frames are kept there."""
        self._options, self._n_step, self._stack = plan.options, plan.n_step, plan.layout.stack
        self._shape = plan.actors, plan.rows, plan.layout.envs
        self._sequences, self._span = plan.sequences, plan.span
        self._rollout_steps, self._states = plan.layout.steps, plan.states
        fields, offset = plan.fields(), 0
        self._views: dict[str, Tensor] = {}
        if plan.gpu_nbytes:
            frames = fields.pop("frames")
            self._views["frames"] = torch.empty(frames.shape, dtype=frames.dtype, device=device)
        memory = plan.allocate()
        for name, array in fields.items():
            self._views[name] = array.view(memory, offset)
            offset += array.nbytes
        self.newest = np.zeros(plan.actors, dtype=np.int64)
        """[A] int64: number of each actor's newest row."""
        self._observation_nbytes = self._stack * plan.layout.frame.nbytes
        self._tree = SumTree(math.prod(self._shape)) if self._options.prioritized else None
        self._max_priority = 1.0  # largest priority so far, given to new steps

    @property
    def batch_size(self) -> int:
        """Samples of one gradient step."""
        return self._options.batch_size

    @property
    def is_prioritized(self) -> bool:
        """Whether steps are sampled by their priorities."""
        return self._tree is not None

    def extend(self, rollout: Rollout) -> None:
        """Store the steps of `rollout`, overwriting the oldest ones."""
        actor, steps = int(rollout.stamp[1]), len(rollout.reward)
        if rollout.starts_reset:
            self._end_episodes(actor)
        first = int(self.newest[actor])
        rows = torch.arange(first, first + steps + 1) % self._shape[1]
        if self._tree is not None:
            self._drop_priorities(actor, first, first + steps)
        frames = self._views["frames"][actor]
        frames.index_copy_(0, rows.to(frames.device), rollout.frames[self._stack - 1 :].to(frames.device))
        self._views["reset"][actor].index_copy_(0, rows, rollout.reset)
        for name in ("action", "reward", "terminated"):
            view = self._views[name]
            view[actor].index_copy_(0, rows[:-1], getattr(rollout, name).to(view.dtype))
        if self._sequences is not None:
            self._views["start"][actor].index_fill_(0, rows, False)
            self._views["start"][actor, rows[0]] = True
            self._views["state"][actor].index_copy_(0, self._places("state", first, 1), rollout.state[None])
        self.newest[actor] = first + steps
        if self._tree is not None:
            self._add_priorities(actor, first, first + steps)

    def samples(
        self, count: int, random: torch.Generator, progress: float = 0.0, rewards: Rewards | None = None
    ) -> Iterator[Sample]:
        """Yield samples that add up to `count` batches; `progress` in [0, 1] is the fraction of the run completed.

        Uniform sampling yields several batches per sample, to be split. Prioritized sampling yields one batch at a
        time, because `prioritize` changes the priorities in between.
        """
        size, rewards = self._options.batch_size, rewards or Rewards()
        if self._sequences is not None:
            starts = self._starts() if self._tree is None else None
            for _ in range(count):
                drawn = self._draw_by_priority(random, size, progress) if starts is None else _draw(starts, random, size)
                yield self._sample_sequences(*drawn, rewards, self._sequences)
            return
        if self._tree is not None:
            for _ in range(count):
                yield self._sample(*self._draw_by_priority(random, size, progress), rewards)
            return
        batches = min(_MAX_BATCHES, max(1, _MAX_BYTES // (2 * size * self._observation_nbytes)))
        for done in range(0, count, batches):
            steps = size * min(batches, count - done)
            yield self._sample(*self._draw_uniformly(random, steps), torch.ones(steps, dtype=torch.float32), rewards)

    def _sample(self, actor: np.ndarray, row: np.ndarray, env: np.ndarray, weight: Tensor, rewards: Rewards) -> Sample:
        """Return the transitions that begin at `row` of environment `env` of `actor`, [N] int64 each."""
        rows = row + np.arange(self._n_step + 1)[:, None]  # [n+1, N]
        index = self._index(actor, rows, env)
        reward, steps, terminated = self._returns(index, rewards)
        both_rows = np.concatenate([row, row + steps.numpy()])
        observation, next_observation = self._observations(np.tile(actor, 2), both_rows, np.tile(env, 2)).chunk(2)
        action = self._flat("action")[index[0]]
        return Sample(
            observation=observation,
            action=action.long() if not action.is_floating_point() else action,
            reward=reward,
            next_observation=next_observation,
            steps=steps,
            terminated=terminated,
            weight=weight,
            index=index[0],
        )

    def _sample_sequences(
        self,
        actor: np.ndarray,
        row: np.ndarray,
        env: np.ndarray,
        weight: Tensor,
        rewards: Rewards,
        options: SequenceOptions,
    ) -> Sample:
        """Return the transitions of the sequences that begin at `row` of environment `env` of `actor`, [M] int64 each."""
        burn_in, length, count = options.burn_in, options.sequence_length, len(row)
        rows = row + np.arange(self._span + 1)[:, None]  # [W, M]
        index = self._index(actor, rows, env)
        # the steps of each transition, [n+1, length·M]
        steps_of = torch.stack([index[burn_in + k : burn_in + k + length].flatten() for k in range(self._n_step + 1)])
        reward, steps, terminated = self._returns(steps_of, rewards)
        observation = self._observations(np.tile(actor, len(rows)), rows.ravel(), np.tile(env, len(rows)))
        valid = ~self._flat("reset")[index]
        learned = valid[burn_in : burn_in + length].flatten()
        unroll = Unroll(
            observation=observation.view(*index.shape, *observation.shape[1:]),
            state=self._views["state"][actor, row // self._rollout_steps % self._states, env],
            valid=valid,
            learned=learned,
            later=torch.arange(length * count) + steps * count,
            burn_in=burn_in,
            length=length,
        )
        action = self._flat("action")[steps_of[0]]
        share = len(learned) / max(1, int(learned.sum()))  # so that means over all transitions are means over valid ones
        return Sample(
            observation=observation[:0],
            action=action.long() if not action.is_floating_point() else action,
            reward=reward,
            next_observation=observation[:0],
            steps=steps,
            terminated=terminated,
            weight=torch.where(learned, weight.repeat(length) * share, 0.0),
            index=index[0],
            unroll=unroll,
        )

    def _returns(self, index: Tensor, rewards: Rewards) -> tuple[Tensor, Tensor, Tensor]:
        """Return rewards [n, N], steps [N] and termination [N] of transitions with steps stored at `index` [n+1, N]."""
        reset, terminated = self._flat("reset")[index], self._flat("terminated")[index[:-1]]
        alive = torch.ones(index.shape, dtype=torch.bool)  # step k belongs to the transition
        for k in range(len(index) - 1):
            alive[k + 1] = alive[k] & ~terminated[k] & ~reset[k + 1]
        alive = alive[:-1]
        reward = torch.where(alive, rewards.learned(self._flat("reward")[index[:-1]], terminated), 0.0)
        return reward, alive.sum(0), (alive & terminated).any(0)

    def rows(self, since: np.ndarray) -> dict[str, Tensor]:
        """Return the rows from number `since` [A] on that are still stored, by name; `load_rows` takes them."""
        tensors = {}
        for actor, (start, newest) in enumerate(zip(since.tolist(), self.newest.tolist(), strict=True)):
            first = max(start, newest - self._shape[1] + 1)
            tensors[f"{actor}.first"] = torch.tensor(first)
            for name, view in self._views.items():
                places = self._places(name, first, newest + 1 - first)
                tensors[f"{actor}.{name}"] = view[actor].index_select(0, places.to(view.device)).cpu()
        return tensors

    def like(self, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return what `rows` would return with as many rows per actor as `found` has, as tensors on device "meta".

        The result says whether `found` has the names, shapes and dtypes of this buffer.
        """
        expected = {}
        for actor in range(len(self.newest)):
            reset = found.get(f"{actor}.reset")
            count = min(max(1, len(reset)) if reset is not None and reset.dim() else 1, self._shape[1])
            expected[f"{actor}.first"] = torch.empty((), dtype=torch.int64, device="meta")
            for name, view in self._views.items():
                state = found.get(f"{actor}.state")
                states = min(len(state), self._states) if state is not None and state.dim() else 1
                shape = (states if name == "state" else count, *view.shape[2:])
                expected[f"{actor}.{name}"] = torch.empty(shape, dtype=view.dtype, device="meta")
        return expected

    def load_rows(self, rows: dict[str, Tensor]) -> None:
        """Store the result of `rows`, leaving priorities as they are.

        Raises ValueError if the rows do not continue the stored ones.
        """
        for actor in range(len(self.newest)):
            first, count = int(rows[f"{actor}.first"]), len(rows[f"{actor}.reset"])
            stored = int(self.newest[actor])
            is_gap = 0 < stored < first and count < self._shape[1]
            if not 0 <= first < 2**53 or first + count - 1 < stored or is_gap:
                raise ValueError(f"rows {first} to {first + count - 1} of actor {actor} do not continue row {stored}")
            for name, view in self._views.items():
                places, tensor = self._places(name, first, count), rows[f"{actor}.{name}"]
                if len(places) != len(tensor):
                    raise ValueError(f"{len(tensor)} entries of {name} for {len(places)}")
                view[actor].index_copy_(0, places.to(view.device), tensor.to(view.device))
            self.newest[actor] = first + count - 1

    def state(self) -> dict[str, Tensor]:
        """Return the priorities for `restore`; {} without prioritized replay."""
        if self._tree is None:
            return {}
        highest = torch.tensor(self._max_priority, dtype=torch.float64)
        return {"priorities": torch.from_numpy(self._tree.priorities.copy()), "highest": highest}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Restore the result of `state`."""
        if self._tree is not None:
            self._tree.update(np.arange(math.prod(self._shape)), state["priorities"].numpy())
            self._max_priority = float(state["highest"])

    def prioritize(self, index: Tensor, errors: Tensor) -> None:
        """Set the priorities of the steps at `index` [N] to (errors + 10⁻⁶)^α (Schaul et al. 2016, section 3.3).

        `errors` is [N] ≥ 0. Steps that have been overwritten since they were sampled are skipped.
        """
        if self._tree is not None:
            priority = (errors.double().numpy() + 1e-6) ** self._options.priority_exponent
            stored = self._tree.priorities[index.numpy()] > 0
            self._tree.update(index.numpy()[stored], priority[stored])
            self._max_priority = max(self._max_priority, float(priority.max()))

    def _draw_by_priority(
        self, random: torch.Generator, size: int, progress: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, Tensor]:
        """Draw steps with probability P_i = p_i / Σ p, one from each of `size` equal ranges of the total priority.

        Returns actors, row numbers, environments [N] int64, and importance weights [N] float32, which are
        (N·P_i)^−β divided by their maximum (Schaul et al. 2016, section 3.4). β rises linearly to 1.
        """
        assert self._tree is not None
        offset = torch.rand(size, generator=random, dtype=torch.float64).numpy()
        index = self._tree.find((np.arange(size) + offset) / size * self._tree.total)
        actor, slot, env = np.unravel_index(index, self._shape)
        newest, rows = self.newest[actor], self._shape[1]
        row = newest - (newest - slot) % rows
        beta = self._options.importance_exponent + (1 - self._options.importance_exponent) * progress
        weight = self._tree.priorities[index] ** -beta
        return actor, row, env, torch.from_numpy(weight / weight.max()).float()

    def _draw_uniformly(self, random: torch.Generator, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Draw steps uniformly. Returns actors, row numbers and environments, [N] int64."""
        oldest = self.oldest
        counts = np.maximum(0, self.newest - self._n_step + 1 - oldest) * self._shape[2]
        ends = np.cumsum(counts)
        actor, row, env = (np.zeros(size, dtype=np.int64) for _ in range(3))
        pending = np.arange(size)
        while len(pending):  # reset steps, one per episode, are drawn again
            number = torch.randint(int(ends[-1]), pending.shape, generator=random).numpy()
            a = np.searchsorted(ends, number, side="right")
            actor[pending] = a
            row[pending], env[pending] = divmod(number - (ends - counts)[a], self._shape[2])
            row[pending] += oldest[a]
            pending = np.flatnonzero(self._flat("reset")[self._index(actor, row, env)].numpy())
        return actor, row, env

    def _starts(self) -> np.ndarray:
        """Return actor, row and environment [3, K] of the stored sequences that are complete."""
        found = []
        for actor, (oldest, newest) in enumerate(zip(self.oldest.tolist(), self.newest.tolist(), strict=True)):
            slots = np.flatnonzero(self._views["start"][actor, :, 0].numpy())
            rows = newest - (newest - slots) % self._shape[1]
            rows = rows[(rows >= oldest) & (rows <= newest - self._span)]
            envs = np.arange(self._shape[2])
            found.append(
                np.stack([np.full(len(rows) * len(envs), actor), rows.repeat(len(envs)), np.tile(envs, len(rows))])
            )
        return np.concatenate(found, 1)

    def _places(self, name: str, first: int, count: int) -> Tensor:
        """Return where the field `name` of rows `first` … `first` + `count` − 1 is stored; states, one per rollout."""
        if name == "state":
            return torch.arange(first // self._rollout_steps, (first + count - 1) // self._rollout_steps + 1) % self._states
        return torch.arange(first, first + count) % self._shape[1]

    @property
    def oldest(self) -> np.ndarray:
        """[A] int64: the oldest row of each actor whose frame stack is complete."""
        return self._oldest_at(self.newest)

    @property
    def oldest_stored(self) -> np.ndarray:
        """[A] int64: the oldest row of each actor; negative before the buffer is full. Frame stacks reach back to it."""
        return np.asarray(self.newest - self._shape[1] + 1)

    def _oldest_at(self, newest: np.ndarray) -> np.ndarray:
        """Return `oldest` for the newest rows `newest` [A]."""
        first: np.ndarray = newest - self._shape[1] + 1
        return np.where(first > 0, first + self._stack - 1, 0)

    def _end_episodes(self, actor: int) -> None:
        """Mark the actor's newest frames as the ends of their episodes: its environments have started new ones."""
        newest = int(self.newest[actor])
        if newest == 0:
            return
        if self._tree is not None:
            self._drop_priorities(actor, newest, newest + 1)
        self._views["reset"][actor, newest % self._shape[1]] = True
        for name in ("action", "reward", "terminated"):  # of the reset step, which no rollout has: sequences contain it
            self._views[name][actor, newest % self._shape[1]] = 0
        self.newest[actor] = newest + 1
        if self._tree is not None:
            self._add_priorities(actor, newest, newest + 1)

    def _drop_priorities(self, actor: int, first: int, last: int) -> None:
        """Zero the priorities of rows that become too old as the newest row moves from `first` to `last`."""
        assert self._tree is not None
        before, after = self._oldest_at(np.array([first, last]))
        self._tree.update(self._indices(actor, np.arange(before, after)), 0.0)

    def _add_priorities(self, actor: int, first: int, last: int) -> None:
        """Give rows `first` − n + 1 to `last` − n, whose n steps are now complete, the largest priority so far.

        n is the number of steps of a sample. Reset steps have no priority; with sequences, starts of rollouts alone do.
        """
        assert self._tree is not None
        rows = np.arange(max(0, first - self._span + 1), last - self._span + 1)
        index = self._indices(actor, rows)
        begins = ~self._flat("reset")[index] if self._sequences is None else self._flat("start")[index]
        self._tree.update(index[begins.numpy()], self._max_priority)

    def _indices(self, actor: int, rows: np.ndarray) -> np.ndarray:
        """Return the flat indices [R·B] of `rows` [R] of all environments of `actor`."""
        envs = np.arange(self._shape[2])
        return self._index(np.int64(actor), rows[:, None], envs).numpy().ravel()

    def _index(self, actor: np.ndarray | np.int64, row: np.ndarray, env: np.ndarray) -> Tensor:
        """Return the flat indices, int64, of rows in the buffer of all actors and environments."""
        rows, envs = self._shape[1:]
        return torch.from_numpy((actor * rows + row % rows) * envs + env)

    def _flat(self, name: str) -> Tensor:
        """Return a view of the field `name` for `_index`: [A·R·B, …]."""
        return self._views[name].flatten(0, 2)

    def _observations(self, actor: np.ndarray, row: np.ndarray, env: np.ndarray) -> Tensor:
        """Return the observations [M, *O] at `row` [M]; stacked frames of earlier episodes are zero."""
        age = np.arange(self._stack)[::-1]
        rows = row[:, None] - age  # [M, S], oldest first
        index = self._index(actor[:, None], rows, env[:, None])
        frames = self._flat("frames")
        places = index.flatten().to(frames.device)
        frames = frames.index_select(0, places).view(*index.shape, *frames.shape[1:])  # faster than [index]
        if self._stack == 1:
            return frames[:, 0]
        boundary = self._flat("reset")[index] | torch.from_numpy(rows < 0)
        boundary[:, -1] = False  # a reset step's own frame still belongs to the episode that ended
        other_episode = boundary.flip(1).cumsum(1).flip(1) > 0
        others = other_episode.nonzero(as_tuple=True)  # faster than a mask over all frames
        frames[tuple(axis.to(frames.device) for axis in others)] = 0
        return frames


def _draw(starts: np.ndarray, random: torch.Generator, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, Tensor]:
    """Draw `size` of the `starts` [3, K] uniformly. Returns actors, rows, environments [size], and weights of 1."""
    actor, row, env = starts[:, torch.randint(starts.shape[1], (size,), generator=random).numpy()]
    return actor, row, env, torch.ones(size, dtype=torch.float32)
