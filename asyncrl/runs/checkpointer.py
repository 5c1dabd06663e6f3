"""What a run needs to go on after any interruption: gathered while it trains, saved and restored."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from asyncrl.acting.actor_state import ActorState, ActorTracker
from asyncrl.envs import Contract
from asyncrl.experience import Archive
from asyncrl.experience.rollout import Rollout, Ticket
from asyncrl.learner import Learner
from asyncrl.monitor import Monitor
from asyncrl.runs import checkpoint
from asyncrl.runs.config import OnDivergence, RunConfig
from asyncrl.runs.run import Run
from asyncrl.runs.saved_state import read_state
from asyncrl.runs.statistics import Statistics

__all__ = ["Checkpointer"]


class Checkpointer:
    """Saves the learner, its replay memory, the weights that actors still use, and where the actors are."""

    def __init__(
        self,
        config: RunConfig,
        contract: Contract,
        run: Run,
        monitor: Monitor,
        learner: Learner,
        statistics: Statistics,
        versions: int,
    ) -> None:
        """`versions`: how many published versions of the weights are kept with a checkpoint."""
        self._config, self._contract, self._run, self._monitor = config, contract, run, monitor
        self._learner, self._statistics = learner, statistics
        experience = config.algorithm.experience()
        self._archive = None if learner.replay is None else Archive(learner.replay, run.replay_folder)
        self._actors = None if experience.full_episodes else ActorTracker(config.actors, experience.overlap)
        self._versions: deque[tuple[int, Tensor]] = deque(maxlen=versions)
        self.saved = -1
        """The update of the newest checkpoint."""
        self._rewinds: tuple[checkpoint.Rewind, ...] = ()
        self.is_scheduled = True
        """A checkpoint is due at this update."""

    @property
    def rewinds(self) -> tuple[checkpoint.Rewind, ...]:
        """How often the run has diverged and gone back."""
        return self._rewinds

    @property
    def recent(self) -> dict[int, Tensor]:
        """The published versions of the weights that rollouts in the making were requested with."""
        return dict(self._versions)

    def remember_weights(self) -> None:
        """Keep a copy of the learner's weights where this version is published."""
        if self._learner.updates % self._config.publish_every == 0:
            self._versions.append((self._learner.updates, self._learner.weights.detach().clone()))

    def track_actors(self, rollouts: Mapping[Ticket, Rollout]) -> list[int]:
        """Note where the actors are after `rollouts`; returns those whose environments began new episodes."""
        if self._actors is None:
            return []
        self._actors.follow(rollouts)
        return [ticket.actor for ticket, rollout in rollouts.items() if rollout.starts_reset]

    def save(self) -> Path:
        """Write a checkpoint of this update, unless there is one already, and let `latest` point to it.

        The run's records so far are on disk before it is: a checkpoint never knows more than the metrics. Where these
        cannot be written, or somebody has removed the run's folder, that is raised when what was learned is safe. Raises
        DivergenceError instead of saving weights that have diverged.
        """
        update, step = self._learner.updates, self._learner.step
        path = self._run.checkpoint_path(step)
        if self.saved != update:
            self._learner.check()
            self._monitor.status(f"saving a checkpoint at step {step:,}")
            failure = self._run.vanished()
            if failure is not None:
                self._run.write_config(self._config, self._contract)
            try:
                self._monitor.sync()
            except OSError as problem:
                failure = problem
            checkpoint.save(
                path,
                self._tensors(update),
                step=step,
                update=update,
                seconds=self._statistics.seconds,
                contract=self._contract,
                config=self._config,
                replay=None if self._archive is None else self._archive.write(path.name),
                scheduled=self.is_scheduled,
                sound=self._learner.is_sound,
                rewinds=self._rewinds,
            )
            self._run.mark("latest", path)
            self._run.prune(self._config.keep_checkpoints, scheduled=self._config.on_divergence is OnDivergence.REWIND)
            self.saved = update
            self._monitor.status("")
            if failure is not None:
                raise failure
        return path

    def _tensors(self, update: int) -> dict[str, dict[str, Tensor]]:
        older = {str(version): weights for version, weights in self._versions if version != update}
        actors = {} if self._actors is None else self._actors.tensors()
        extra = {"recent": older, "actors": actors, "episodes": self._statistics.state() if actors else {}}
        return {**self._learner.state(), **{name: tensors for name, tensors in extra.items() if tensors}}

    def restore(self, saved: checkpoint.Checkpoint) -> dict[int, ActorState]:
        """Continue from a checkpoint; returns where the actors were, by actor."""
        state = read_state(saved, self._config, self._contract)
        older, actors, episodes = (state.pop(name, {}) for name in ("recent", "actors", "episodes"))
        if self._archive is not None:
            self._archive.read(saved.replay)
        self._learner.restore(state, saved.update, saved.step)
        self._versions.extend(sorted((int(version), weights) for version, weights in older.items()))
        self._statistics.restore(saved.update, saved.step, self._run.records(), episodes)
        self.saved, self._rewinds = saved.update, saved.rewinds
        return {} if self._actors is None else self._actors.restore(actors)
