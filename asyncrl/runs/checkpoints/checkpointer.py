"""Saves and restores everything that a run needs to continue exactly where it was."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from asyncrl.acting.actor_state import ActorState, ActorTracker
from asyncrl.experience import Archive
from asyncrl.experience.rollout import Rollout, Ticket
from asyncrl.learner import Learner
from asyncrl.runs.checkpoints import checkpoint
from asyncrl.runs.checkpoints.manifest import Rewind
from asyncrl.runs.checkpoints.saved_state import read_state
from asyncrl.runs.components import actor_spec
from asyncrl.runs.config.run_config import OnDivergence
from asyncrl.runs.context import RunContext
from asyncrl.runs.every import Every
from asyncrl.runs.metrics.statistics import RunStatistics

__all__ = ["Checkpointer"]

_LONG_REPLAY = 2_000
"""Restoring environments by replaying more steps than this is reported."""


class Checkpointer:
    """Saves the learner, its replay buffer, the published weights that actors still use, and where the actors are."""

    def __init__(self, context: RunContext, learner: Learner, statistics: RunStatistics, *, kept_versions: int) -> None:
        """`kept_versions`: how many published versions of the weights a checkpoint holds."""
        self._context = context
        self._learner = learner
        self._statistics = statistics
        experience = context.config.algorithm.experience()
        self._archive = None if learner.replay is None else Archive(learner.replay, context.run.replay_folder)
        self._actors = None if experience.full_episodes else ActorTracker(context.config.actors, experience.overlap)
        self._versions: deque[tuple[int, Tensor]] = deque(maxlen=kept_versions)
        self._every = Every(context.config.checkpoint_every)
        self._consumed = 0  # rollouts that were learned from before the run was resumed
        self.saved = -1
        """The update of the newest checkpoint."""
        self.rewinds: tuple[Rewind, ...] = ()
        """The times that the run diverged and went back to an earlier checkpoint."""
        self.actor_states: dict[int, ActorState] = {}
        """By actor: where it continues in a resumed run; {} in a new one."""

    @property
    def recent(self) -> dict[int, Tensor]:
        """The published versions of the weights that rollouts in progress were requested with."""
        return dict(self._versions)

    def current_states(self) -> dict[int, ActorState]:
        """By actor: where one that is lost continues, after the rollouts learned from; without those not restorable."""
        return {} if self._actors is None else self._actors.states()

    def is_due(self, step: int) -> bool:
        """Whether a checkpoint is due at environment step `step`."""
        return self._every.is_due(step)

    def keep_weights(self) -> None:
        """Keep a copy of the learner's weights, which have been published."""
        self._versions.append((self._learner.updates, self._learner.weights.detach().clone()))

    def track_actors(self, rollouts: Mapping[Ticket, Rollout]) -> None:
        """Note where the actors are after `rollouts`, and report those whose environments could not be restored."""
        if self._actors is None:
            return
        self._actors.follow(rollouts)
        restarted = [ticket.actor for ticket, rollout in rollouts.items() if rollout.starts_reset]
        lost = [str(actor) for actor in restarted if actor < self._consumed]
        if lost and self._context.config.offline is None:  # a dataset has no environments
            self._context.monitor.say(f"New episodes for actors {', '.join(lost)}: their environments cannot be restored.")

    def save(self) -> Path:
        """Write a checkpoint of this update unless there is one already, and let `latest` point to it.

        The run's records are written to disk first, so a checkpoint is never ahead of the metrics. If that fails, or the
        run's folder has been removed, the error is raised once the checkpoint is safe. Raises DivergenceError instead of
        saving weights that have diverged.
        """
        config, run, monitor = self._context.config, self._context.run, self._context.monitor
        update, step = self._learner.updates, self._learner.step
        path = run.checkpoint_path(step)
        if self.saved == update:
            return path
        self._learner.check()
        self._learner.stopwatch.lap("other")
        monitor.status(f"saving a checkpoint at step {step:,}")
        failure = run.vanished()
        if failure is not None:
            run.write_config(config, self._context.contract)
        try:
            monitor.sync()
        except OSError as problem:
            failure = problem
        checkpoint.save(
            path,
            self._tensors(update),
            step=step,
            update=update,
            seconds=self._statistics.seconds,
            contract=self._context.contract,
            config=config,
            replay=None if self._archive is None else self._archive.write(path.name),
            scheduled=self._every.is_due(step),
            sound=self._learner.is_sound,
            rewinds=self.rewinds,
        )
        run.mark("latest", path)
        run.prune(config.keep_checkpoints, scheduled=config.on_divergence is OnDivergence.REWIND)
        self.saved = update
        self._every.mark(step)
        if self._context.uploads is not None:
            self._context.uploads.offer()
        self._learner.stopwatch.lap("checkpoint")
        monitor.status("")
        if failure is not None:
            raise failure
        return path

    def _tensors(self, update: int) -> dict[str, dict[str, Tensor]]:
        older = {str(version): weights for version, weights in self._versions if version != update}
        actors = {} if self._actors is None else self._actors.tensors()
        continues = bool(actors) or self._context.config.offline is not None  # a dataset continues without a saved actor
        extra = {"recent": older, "actors": actors, "episodes": self._statistics.state() if continues else {}}
        return {**self._learner.state(), **{name: tensors for name, tensors in extra.items() if tensors}}

    def restore(self, saved: checkpoint.Checkpoint) -> None:
        """Continue from a checkpoint: restores the learner, the replay buffer, the statistics and `actor_states`."""
        config, contract = self._context.config, self._context.contract
        state = read_state(saved, config, contract)
        older, actors, episodes = (state.pop(name, {}) for name in ("recent", "actors", "episodes"))
        if self._archive is not None:
            self._archive.read(saved.replay)
        self._learner.restore(state, saved.update, saved.step)
        self._versions.extend(sorted((int(version), weights) for version, weights in older.items()))
        self._statistics.restore(saved.update, saved.step, self._context.run.records(), episodes)
        self.saved, self.rewinds = saved.update, saved.rewinds
        self._every.mark(saved.step)
        self._consumed = actor_spec(config, contract, saved.update).consumed
        if self._actors is not None:
            self.actor_states = self._actors.restore(actors)
        longest = max((len(played) for state in self.actor_states.values() for played in state.actions), default=0)
        if longest >= _LONG_REPLAY:
            self._context.monitor.say(f"Replaying up to {longest:,} steps to restore the environments.")
