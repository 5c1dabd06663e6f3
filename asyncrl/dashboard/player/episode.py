"""Episodes that a viewer shows step by step: played by a policy, or replayed from a crash capsule."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import gymnasium
import numpy as np
import torch

from asyncrl.agents.agent import Agent
from asyncrl.algorithms import ActContext
from asyncrl.common.randomness import Stream, environment_seeds, generator
from asyncrl.dashboard.player.outputs import action_names, bars, value
from asyncrl.dashboard.player.saliency import Spread, numbers
from asyncrl.dashboard.player.stage import Stage, input_picture
from asyncrl.envs import read_contract
from asyncrl.envs.families.single import SingleFamily
from asyncrl.envs.registry import family_named
from asyncrl.envs.supervision import capsule
from asyncrl.errors import UsageError

__all__ = ["CapsuleEpisode", "Episode", "PolicyEpisode", "Request", "evaluation_seed"]


@dataclass(frozen=True)
class Request:
    """How an episode is to be played."""

    seed: int = 1
    """Seed of the environment and the policy, as of `asyncrl play --seed`."""
    greedy: bool | None = None
    """None does as the run's evaluations."""
    epsilon: float = 0.0
    number: int | None = None
    """Repeat this episode of the run's evaluations, numbered from 0, instead of playing `seed`."""
    recorded: float | None = None
    """The return that the evaluation recorded for it."""


class Episode(Protocol):
    """An episode, shown before each step and after the last."""

    score: float
    """Return so far."""
    length: int
    done: bool

    def content(self) -> dict[str, Any]:
        """Return what the page shows beside the picture."""

    def picture(self, *, of_input: bool) -> np.ndarray | None:
        """Return a picture [H, W, 3] uint8 of the game or of the network's input; None if there is none."""

    def advance(self) -> None:
        """Make one step."""

    def end(self) -> str:
        """Return a sentence on how it ended; "" if there is nothing to say."""


def evaluation_seed(seed: int, number: int) -> int:
    """Return the environment's seed in episode `number` of an evaluation of a run with root seed `seed`."""
    return environment_seeds(seed, Stream.EVALUATION, number + 1)[number]


class PolicyEpisode:
    """An episode of the agent, whose weights may become newer while it lasts."""

    def __init__(self, agent: Agent, stage: Stage, request: Request, spread: Spread) -> None:
        config = agent.checkpoint.config
        self._policy, self._stage, self._spread = agent.policy, stage, spread
        self.request = request
        self._context = ActContext.evaluation(
            generator(config.seed if request.number is not None else request.seed, Stream.EVALUATION),
            greedy=agent.resolve_greedy(request.greedy),
            epsilon=request.epsilon,
        )
        self.score, self.length, self.done = 0.0, 0, False
        self._limit = config.episode_limit(stage.contract) or math.inf
        env_seed = (
            evaluation_seed(request.seed, 0) if request.number is None else evaluation_seed(config.seed, request.number)
        )
        self._observation = stage.reset(env_seed).copy()
        self.state = agent.policy.initial_state(1)
        """[1, S]: the recurrent state before the current observation."""
        self._acted: tuple[np.ndarray, torch.Tensor, dict[str, Any]] | None = None
        self._is_altered = False
        """Whether its actions or weights were chosen in another way since it began."""
        self._actions = stage.contract.spaces.actions
        self._names = action_names(self._actions, stage.meanings())
        spread.add(np.array(list(numbers(stage.contract.spaces, self._observation).values())))

    @property
    def observation(self) -> np.ndarray:
        """[1, *O]: the current observation."""
        return self._observation

    def change(self, greedy: bool | None, epsilon: float, agent: Agent) -> None:
        """Choose actions in another way from the next one on."""
        self._is_altered = True
        self._context = self._context._replace(greedy=agent.resolve_greedy(greedy), epsilon=epsilon)

    def forget(self) -> None:
        """Choose the next action again: the policy's weights have changed."""
        self._is_altered = True
        self._acted = None

    def content(self) -> dict[str, Any]:
        known = {} if self.done else self._act()[2]
        return {"seed": self.request.seed, "evaluation": self.request.number, **known}

    def numbers(self) -> dict[str, float]:
        """Return the observation's numbers by name."""
        return numbers(self._stage.contract.spaces, self._observation)

    def picture(self, *, of_input: bool) -> np.ndarray | None:
        seen = input_picture(self._stage.contract, self._observation)
        if of_input and seen is not None:
            return seen
        drawn = self._stage.picture()
        return seen if drawn is None else drawn

    def advance(self) -> None:
        action, state, _ = self._act()
        step = self._stage.step(action)
        self._acted = None
        self.state = state
        self._observation = step.observation.copy()
        self._spread.add(np.array(list(self.numbers().values())))
        self.score += float(step.reward[0])
        self.length += 1
        self.done = bool(step.done[0]) or self.length >= self._limit

    def end(self) -> str:
        if self.request.recorded is None:
            return ""
        if math.isclose(self.score, self.request.recorded, rel_tol=1e-5, abs_tol=1e-5):
            return f"Return {self.score:g}, as in the evaluation."
        if self._is_altered:
            why = "its actions or its weights were changed here"
        else:
            why = "its environments were made in another way" if self._context.greedy else "it sampled its actions"
        return f"Return {self.score:g}; the evaluation recorded {self.request.recorded:g}, but {why}."

    def _act(self) -> tuple[np.ndarray, torch.Tensor, dict[str, Any]]:
        """Return the action [1, …] in the current state, the recurrent state after it, and the network's outputs."""
        if self._acted is None:
            seen = torch.from_numpy(self._observation)
            output, outputs = self._policy.act_with_outputs(seen, self.state, self._context)
            action = np.asarray(output.action)
            found = value(self._policy, outputs, seen, output.action)
            known = {
                "action": self._describe(action),
                "bars": [dataclasses.asdict(one) for one in bars(outputs, self._actions, self._names, action)],
                "value": None if found is None else found.number,
                "value_name": None if found is None else found.name,
            }
            self._acted = action, output.state, known
        return self._acted

    def _describe(self, action: np.ndarray) -> str:
        if self._actions.is_continuous:
            return ", ".join(f"{x:.3g}" for x in self._actions.for_environment(action).reshape(-1))
        parts = zip(self._names, action.reshape(-1).tolist(), strict=True)
        return ", ".join(names[chosen] for names, chosen in parts)


class CapsuleEpisode:
    """The episode of a crash capsule, step by step until it fails again. It may end this process, as it did before."""

    def __init__(self, file: Path, *, trust: bool) -> None:
        """Raises UsageError for a damaged capsule, and for one that names untrusted code."""
        found = self._capsule = capsule.load(file)
        contract = read_contract(found.contract, None if trust else found.untrusted_source, f"{file}: contract")
        contract.check_trust()
        family = family_named(contract.family)
        if not isinstance(family, SingleFamily):
            raise UsageError(f"{file}: {contract.env} runs in native code, which cannot be replayed one at a time")
        self._env = self._made(family, contract)
        self._actions: Iterator[Any] = iter(self._env.action_space.from_jsonable(found.actions))
        self.score, self.length, self.done = 0.0, 0, False
        self._next: Any = None
        self._guard("reset", lambda: self._env.reset(seed=found.seed, options=found.options))
        self._take()

    @staticmethod
    def _made(family: SingleFamily, contract: Any) -> gymnasium.Env[Any, Any]:
        try:
            return family.with_time_limit(contract, render=True)
        except Exception:  # it cannot be drawn: from the environment's code
            return family.with_time_limit(contract, render=False)

    def content(self) -> dict[str, Any]:
        taken = "" if self.done else f"{self._next}"
        return {"seed": self._capsule.seed, "capsule": self._capsule.what, "action": taken, "of": self._capsule.steps}

    def picture(self, *, of_input: bool) -> np.ndarray | None:
        try:
            drawn = np.asarray(self._env.render())
        except Exception:  # from the environment's code
            return None
        return drawn if drawn.dtype == np.uint8 and drawn.ndim == 3 and drawn.shape[2] == 3 else None

    def advance(self) -> None:
        result = self._guard("step", lambda: self._env.step(self._next))
        self.length += 1
        if result is not None:
            self.score += float(result[1])
            self.done = self.done or bool(result[2] or result[3])
        self._take()

    def end(self) -> str:
        return self._ending or (
            f"It ran through all {self.length} steps without a failure; in the capsule it {self._capsule.what} in step "
            f"{self._capsule.steps}."
        )

    _ending = ""

    def close(self) -> None:
        self._env.close()

    def _take(self) -> None:
        self._next = next(self._actions, None)
        self.done = self.done or self._next is None

    def _guard(self, verb: str, call: Any) -> Any:
        try:
            return call()
        except BaseException as problem:  # from the environment's code
            self.done = True
            where = "" if verb == "reset" else f" (step {self.length + 1})"
            self._ending = f"Its {verb} raised {type(problem).__name__}: {problem}{where}."
            return None
