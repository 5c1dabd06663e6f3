"""Videos of a run's evaluations, recorded in a separate environment."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path

from asyncrl.agents.evaluation import Interrupted, watch
from asyncrl.agents.video import open_video
from asyncrl.algorithms import Policy
from asyncrl.common.os_errors import describe_os_error
from asyncrl.common.signals import StopRequest
from asyncrl.envs import Contract, View
from asyncrl.errors import AsyncRLError, UsageError
from asyncrl.learner import Learner
from asyncrl.runs.context import RunContext
from asyncrl.runs.every import Every
from asyncrl.runs.metrics.statistics import RunStatistics

__all__ = ["EvaluationVideos", "check_pictures"]

_LONGEST = 3_000
"""Steps of a video."""
_GIF_EVERY, _GIF_PICTURES, _GIF_PIXELS = 4, 150, 240
"""TensorBoard shows GIFs, which are large: one picture in four, at most 150 of them, with at most 240 pixels a side."""


def check_pictures(contract: Contract, seed: int) -> None:
    """Raise UsageError if the environment cannot be drawn."""
    try:
        with contextlib.closing(View(contract)) as view:
            view.reset(seed)
            view.picture()
    except UsageError as problem:
        raise UsageError(f"--video-every: {problem}") from None


class EvaluationVideos:
    """Records one episode with the weights that were evaluated, at most every `video_every` steps.

    A failure to record is reported and does not stop the run.
    """

    def __init__(self, context: RunContext, statistics: RunStatistics) -> None:
        self._context = context
        self._statistics = statistics
        self._every = Every(context.config.video_every)
        self._every.mark(0)

    def restore(self) -> None:
        """Continue a run: its metrics say which videos there are."""
        for record in self._context.run.records():
            if record["kind"] == "video":
                self._every.mark(record["step"])

    def record_if_due(self, learner: Learner, stop: StopRequest) -> None:
        """Record the learner's weights and write a `video` record, if one is due; `stop` ends it without a video."""
        if not self._every.is_due(learner.step):
            return
        self._every.mark(learner.step)
        monitor = self._context.monitor
        monitor.status(f"recording a video at step {learner.step:,}")
        try:
            video = self._context.run.path / "videos" / f"eval-{learner.step:012d}.mp4"
            score, length = self._play(learner, video, stop)
            monitor.write(self._statistics.recorded_video(video.name, video.with_suffix(".gif").name, score, length))
        except Interrupted:
            pass
        except (AsyncRLError, OSError) as problem:
            why = describe_os_error(problem) if isinstance(problem, OSError) else problem
            monitor.say(f"No video at step {learner.step:,}: {why}")
        finally:
            monitor.status("")

    def _play(self, learner: Learner, path: Path, stop: StopRequest) -> tuple[float, int]:
        """Play an episode, which becomes an .mp4 and a shorter .gif. Returns its return and length so far."""
        config, contract = self._context.config, self._context.contract.contracts[0]
        policy = Policy(config.algorithm, config.network, self._context.contract.spaces, config.precision.dtype)
        policy.load(learner.weights.cpu())
        limit = min(config.episode_limit(contract) or _LONGEST, _LONGEST)
        path.parent.mkdir(exist_ok=True)
        with contextlib.closing(View(contract)) as view:
            speed = view.frames_per_second
            with open_video(path, speed) as video, open_video(path.with_suffix(".gif"), speed / _GIF_EVERY) as gif:
                for step, seen in enumerate(watch(policy, view, config.seed, greedy=config.eval_greedy)):
                    stop.install_handlers()  # the environment may have installed a signal handler
                    if stop:
                        raise Interrupted
                    video.show(seen.picture)
                    if step % _GIF_EVERY == 0 and step < _GIF_EVERY * _GIF_PICTURES:
                        smaller = math.ceil(max(seen.picture.shape) / _GIF_PIXELS)
                        gif.show(seen.picture[::smaller, ::smaller])
                    if step == limit:
                        break
        return seen.score, step
