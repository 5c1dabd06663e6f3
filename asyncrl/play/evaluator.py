"""Evaluates the weights of a run while it trains, and lets whoever looks on see how far that is."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from asyncrl.algorithms import Policy
from asyncrl.common.signals import StopRequest
from asyncrl.envs import Contract
from asyncrl.errors import EnvironmentFault
from asyncrl.monitor import Monitor
from asyncrl.play.evaluation import Evaluation, Interrupted, cut_off_message, evaluate
from asyncrl.runs.config import RunConfig

__all__ = ["Evaluator", "evaluate_again", "explained"]


def evaluate_again(run: Path) -> str:
    """What to do where a finished run could not be evaluated."""
    return f"the run is saved: asyncrl evaluate {run} --eval-envs 1 evaluates it in one environment"


@contextlib.contextmanager
def explained(what: str, remedy: str) -> Iterator[None]:
    """Say of an environment's fault that it was in an evaluation, and what to do."""
    try:
        yield
    except EnvironmentFault as fault:
        raise EnvironmentFault(f"{what} failed: {fault} ({remedy})", fault.traceback) from fault


class Evaluator:
    """Plays the evaluation episodes of a run, in environments of their own."""

    def __init__(self, config: RunConfig, contract: Contract, monitor: Monitor) -> None:
        self._config, self._contract, self._monitor = config, contract, monitor
        self._policy = Policy(config.algorithm, config.network, contract.spaces, config.precision.dtype)
        self._said_cut_off = False

    def scores(self, weights: Tensor, stop: StopRequest) -> dict[str, Evaluation] | None:
        """Scores by environment; None where `stop` asked to end in the middle of it."""
        self._policy.load(weights.cpu())
        try:
            return {contract.env: self._play(contract, stop) for contract in self._contract.contracts}
        except Interrupted:
            return None
        finally:
            self._monitor.status("")

    def _play(self, contract: Contract, stop: StopRequest) -> Evaluation:
        config = self._config
        episodes, limit = config.eval_episodes, config.episode_limit(contract)

        def progress(finished: int) -> None:
            stop.listen()  # the environment may have put its own handler in place
            if stop:
                raise Interrupted
            self._monitor.status(f"evaluating: {finished:,} of {episodes:,} episodes in {contract.env}")

        result = evaluate(
            self._policy,
            contract,
            episodes,
            config.seed,
            greedy=config.eval_greedy,
            envs=config.evaluation_envs(contract),
            limit=limit,
            progress=progress,
        )
        if result.cut_off and limit is not None and not self._said_cut_off:
            self._monitor.say(cut_off_message(result.cut_off, episodes, limit, "--eval-episode-steps"))
            self._said_cut_off = True
        return result
