"""Watch a run from Python: stop it early, ask for evaluations, and keep the curve of its returns.

    python examples/own_callback.py

A callback is called with each record of metrics.jsonl, in order. It may return a request, and cannot change the weights.
"""

from __future__ import annotations

from typing import Any

import asyncrl
from asyncrl import Evaluate, Stop


class StopWhenSolved:
    """Asks for an evaluation when the training returns look good, and stops the run if it is good too."""

    def __init__(self, target: float) -> None:
        self.target = target
        self.curve: list[tuple[int, float]] = []

    def __call__(self, record: dict[str, Any]) -> Evaluate | Stop | None:
        if record["kind"] == "train" and record["mean_return"] is not None:
            self.curve.append((record["step"], record["mean_return"]))
            if record["mean_return"] >= self.target:
                return Evaluate()
        if record["kind"] == "eval" and record["mean"] >= self.target:
            return Stop(f"an evaluation reached {record['mean']:.0f}")
        return None


def main(steps: int = 300_000, target: float = 400.0) -> asyncrl.Run:
    """Return a run that was stopped when it reached `target`, or made all its steps."""
    callback = StopWhenSolved(target)
    run = asyncrl.train("CartPole-v1", "a3c", steps=steps, callbacks=[callback], eval_episodes=10)
    for step, mean_return in callback.curve[:: max(1, len(callback.curve) // 20)]:
        print(f"{step:>8,} {'█' * round(mean_return / 10)} {mean_return:.0f}")
    print(f"stopped because {run.stopped_because}" if run.stopped_because else "all steps taken")
    return run


if __name__ == "__main__":
    main()
