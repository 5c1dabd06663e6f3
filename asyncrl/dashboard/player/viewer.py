"""Plays an agent for the page: takes commands, and sends pictures with what the network computed."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import queue
import socket
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from asyncrl.algorithms import Random
from asyncrl.dashboard.player.episode import CapsuleEpisode, Episode, PolicyEpisode, Request
from asyncrl.dashboard.player.messages import pack, unpack
from asyncrl.dashboard.player.saliency import Spread, saliency
from asyncrl.dashboard.player.stage import Stage, encoded
from asyncrl.dashboard.player.weights import AgentSource
from asyncrl.errors import AsyncRLError, UsageError

__all__ = ["Viewer"]

_MAX_PICTURES = 30.0
"""Pictures per second."""
_PAUSE_BETWEEN = 1.0
"""Seconds for which the end of an episode stays on the page."""
_SALIENCY_SHARE = 0.5
"""Share of its time that the viewer may spend on saliency."""
_FASTEST = 64.0
_METHOD = "perturbation (Greydanus et al. 2018)"


@dataclasses.dataclass
class _Controls:
    """What the people at the page have chosen."""

    paused: bool = False
    speed: float = 1.0
    """Multiple of the environment's natural speed; 0 is as fast as it goes."""
    greedy: bool | None = None
    """None does as the run's evaluations."""
    epsilon: float = 0.0
    seed: int = 1
    """Of the next episode."""
    saliency: bool = False
    view: str = "game"
    """"game" or "input", what the network sees."""
    environment: str = ""


class Viewer:
    """Plays episodes of one agent, one after another, until its connection is closed."""

    def __init__(self, name: str, connection: socket.socket, *, trust: bool = False) -> None:
        self._connection = connection
        self._trust = trust
        self._commands: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._source = AgentSource(name, trust=trust)
        self._controls = _Controls(environment=self._source.agent.contract.env)
        self._stage = Stage(self._source.agent.contract.named(None))
        self._spread = Spread()
        self._episode: Episode | None = None
        self._number = 0
        self._steps_asked = 0
        self._next: Request | None = None
        self._sent, self._due = 0.0, time.monotonic()
        self._saliency_due = 0.0
        self._saliency: dict[str, Any] | None = None
        threading.Thread(target=self._listen, daemon=True).start()

    def run(self) -> None:
        """Play until the connection is closed."""
        self._describe()
        while True:
            if not self._obey(1.0 if self._is_waiting else max(0.0, self._due - time.monotonic())):
                return
            try:
                if self._source.refresh():
                    self._forget()
                    if self._is_waiting:
                        self._show()
                if not self._is_waiting and time.monotonic() >= self._due:
                    self._step()
                    self._steps_asked = max(0, self._steps_asked - 1)
            except AsyncRLError as problem:
                self._fail(str(problem))

    @property
    def _is_waiting(self) -> bool:
        """Whether nothing happens until a command comes."""
        return self._controls.paused and not self._steps_asked and self._episode is not None

    def _listen(self) -> None:
        with self._connection.makefile("rb") as file, contextlib.suppress(OSError, ValueError):
            while (message := unpack(file.read)) is not None:
                self._commands.put(message[0])
        self._commands.put(None)

    def _send(self, kind: str, content: dict[str, Any], attachment: bytes = b"") -> None:
        self._connection.sendall(pack({"kind": kind, **content}, attachment))

    def _send_state(self) -> None:
        self._send("state", dataclasses.asdict(self._controls) | {"weights": self._source.wanted})

    def _obey(self, seconds: float) -> bool:
        """Obey the commands that arrive within `seconds`. Returns False once the connection is closed."""
        until = time.monotonic() + seconds
        while True:
            try:
                command = self._commands.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                return True
            if command is None:
                return False
            try:
                self._do(command)
            except AsyncRLError as problem:
                self._fail(str(problem))
            self._send_state()
            if not self._is_waiting:
                until = min(until, self._due)

    def _fail(self, sentence: str) -> None:
        self._controls.paused, self._steps_asked = True, 0
        self._send("notice", {"message": sentence, "error": True})
        self._send_state()

    # Commands

    def _do(self, command: dict[str, Any]) -> None:
        """Do what a command asks for: an object whose keys are settings or actions. Raises UsageError."""
        for name, given in command.items():
            if name not in _COMMANDS:
                raise UsageError(f"the player has no command {name[:40]!r}")
            _COMMANDS[name](self, given)

    def _pause(self, given: Any) -> None:
        self._controls.paused = bool(given)
        self._due = time.monotonic()
        self._show_again()

    def _single_step(self, given: Any) -> None:
        beginning = self._episode is None  # an episode has to begin first
        self._controls.paused, self._steps_asked = True, 1 + beginning
        self._due = time.monotonic()

    def _set_speed(self, given: Any) -> None:
        self._controls.speed = _number("speed", given, 0.0, _FASTEST)
        self._due = time.monotonic()

    def _set_greedy(self, given: Any) -> None:
        algorithm = self._source.agent.checkpoint.config.algorithm
        if given is False and not algorithm.is_stochastic:
            raise UsageError(f"{algorithm.name} has a deterministic policy, which cannot be sampled; use ε")
        if given and isinstance(algorithm, Random):
            raise UsageError("random has no greedy policy: all actions have the same probability")
        self._controls.greedy = None if given is None else bool(given)
        self._rechoose()

    def _set_epsilon(self, given: Any) -> None:
        epsilon = _number("ε", given, 0.0, 1.0)
        actions = self._source.agent.contract.spaces.actions
        if epsilon and actions.count is None:
            raise UsageError(f"ε needs one discrete action per step, but the environment has {actions.in_words}")
        self._controls.epsilon = epsilon
        self._rechoose()

    def _rechoose(self) -> None:
        if isinstance(self._episode, PolicyEpisode):
            self._episode.change(self._controls.greedy, self._controls.epsilon, self._source.agent)

    def _set_seed(self, given: Any) -> None:
        self._controls.seed = int(_number("seed", given, 0, 2**63 - 1))
        self._end_episode()

    def _new_episode(self, given: Any) -> None:
        self._end_episode()

    def _set_weights(self, given: Any) -> None:
        self._choose_weights(given)
        self._send("notice", {"message": "", "error": False})
        self._show_again()

    def _choose_weights(self, given: Any) -> None:
        self._source.choose(str(given))
        self._forget()

    def _forget(self) -> None:
        """Let the new weights choose the episode's next action."""
        if isinstance(self._episode, PolicyEpisode):
            self._episode.forget()

    def _set_saliency(self, given: Any) -> None:
        self._controls.saliency = bool(given)
        self._saliency, self._saliency_due = None, 0.0
        self._show_again()

    def _set_view(self, given: Any) -> None:
        if given not in ("game", "input"):
            raise UsageError(f"the view is game or input, not {str(given)[:40]!r}")
        self._controls.view = given
        self._show_again()

    def _set_environment(self, given: Any) -> None:
        contract = self._source.agent.contract.named(str(given))
        stage = Stage(contract)
        self._end_episode()
        self._stage.close()
        self._stage = stage
        self._controls.environment = contract.env
        self._describe()

    def _replay_evaluation(self, given: Any) -> None:
        if not isinstance(given, dict):
            raise UsageError("an evaluation's episode is named by its checkpoint and its number")
        self._choose_weights(given.get("checkpoint"))
        environment = str(given.get("environment") or self._controls.environment)
        if environment != self._controls.environment:
            self._set_environment(environment)
        config = self._source.agent.checkpoint.config
        number = int(_number("number", given.get("number"), 0, 100_000))
        recorded = _number("return", given.get("return"), -np.inf, np.inf)
        self._end_episode()
        self._next = Request(config.seed, config.eval_greedy, 0.0, number, recorded)
        self._pause(False)

    def _replay_capsule(self, given: Any) -> None:
        run = self._source.run
        name = str(given)
        if run is None or Path(name).name != name or not (run.path / "capsules" / name).is_file():
            raise UsageError(f"the run has no crash capsule {name[:80]!r}")
        self._end_episode()
        self._episode = CapsuleEpisode(run.path / "capsules" / name, trust=self._trust)
        self._begin()
        self._pause(False)
        if self._episode.done:  # its reset failed
            self._finish(self._episode)

    # Playing

    def _end_episode(self) -> None:
        if isinstance(self._episode, CapsuleEpisode):
            self._episode.close()
        self._episode, self._next = None, None
        self._due = time.monotonic()
        if self._controls.paused:
            self._steps_asked = 1  # show the next one's beginning

    def _begin(self) -> None:
        self._number += 1
        self._saliency = None
        self._send("notice", {"message": "", "error": False})
        self._send_state()
        self._show()

    def _step(self) -> None:
        """Make one step, or begin an episode; send a picture if it is time for one."""
        controls = self._controls
        if self._episode is None or self._episode.done:
            if isinstance(self._episode, CapsuleEpisode):
                self._end_episode()
            request = self._next or Request(controls.seed, controls.greedy, controls.epsilon)
            if self._next is None:
                controls.seed += 1
            self._next = None
            self._episode = PolicyEpisode(self._source.agent, self._stage, request, self._spread)
            self._begin()
            self._wait()
            return
        self._episode.advance()
        self._wait()
        is_due = time.monotonic() - self._sent >= 1 / _MAX_PICTURES - 0.002
        if is_due or self._episode.done or controls.paused:
            self._show()
        if self._episode.done:
            self._finish(self._episode)

    def _wait(self) -> None:
        """Set the time of the next step."""
        now = time.monotonic()
        speed = self._controls.speed * self._stage.steps_per_second
        self._due = now if not speed else max(self._due + 1 / speed, now - 0.1)

    def _finish(self, episode: Episode) -> None:
        if sentence := episode.end():
            self._controls.paused = True
            self._send("notice", {"message": sentence, "error": False})
            self._send_state()
        self._due = max(self._due, time.monotonic() + (_PAUSE_BETWEEN if self._controls.speed else 0.2))

    # Showing

    def _describe(self) -> None:
        """Tell the page what there is to see and to choose."""
        agent, stage = self._source.agent, self._stage
        algorithm = agent.checkpoint.config.algorithm
        content = {
            "environment": stage.contract.env,
            "environments": [contract.env for contract in agent.contract.contracts],
            "not_drawn": stage.not_drawn,
            "can_sample": algorithm.is_stochastic,
            "can_be_greedy": not isinstance(algorithm, Random),
            "greedy": agent.checkpoint.config.eval_greedy,
            "can_explore": agent.contract.spaces.actions.count is not None,
            "is_run": self._source.run is not None,
            "sees_images": any(part.is_image for part in agent.contract.spaces.parts),
            "saliency": _METHOD,
        }
        self._send("ready", content)
        self._send_state()

    def _show_again(self) -> None:
        if self._controls.paused and self._episode is not None:
            self._show()

    def _show(self) -> None:
        """Send the current picture with what the network computed for it."""
        episode = self._episode
        assert episode is not None
        self._sent = time.monotonic()
        content: dict[str, Any] = {
            "episode": self._number,
            "step": episode.length,
            "return": episode.score,
            "done": episode.done,
            **episode.content(),
            "weights": dataclasses.asdict(self._source.played),
        }
        not_drawn = self._stage.not_drawn
        picture = episode.picture(of_input=self._controls.view == "input")
        if self._stage.not_drawn != not_drawn:  # drawing it has failed
            self._describe()
        if isinstance(episode, PolicyEpisode):
            if picture is None or self._controls.saliency:
                content["numbers"] = episode.numbers()
            if self._controls.saliency and not episode.done:
                content["saliency"] = self._perturbed(episode)
        kind, data = ("", b"") if picture is None else encoded(picture)
        self._send("frame", {**content, "type": kind}, data)

    def _perturbed(self, episode: PolicyEpisode) -> dict[str, Any] | None:
        """Return the newest saliency; a new one if there is time for it."""
        start = time.monotonic()
        if start >= self._saliency_due or self._controls.paused:
            spaces = self._stage.contract.spaces
            found = saliency(self._source.agent.policy, spaces, episode.observation, episode.state, self._spread)
            seconds = time.monotonic() - start
            self._saliency_due = time.monotonic() + seconds * (1 / _SALIENCY_SHARE - 1)
            self._saliency = (
                None
                if found is None
                else {
                    "maps": {name: _map_as_text(values) for name, values in found.maps.items()},
                    "numbers": found.numbers,
                    "step": episode.length,
                }
            )
        return self._saliency


_COMMANDS = {
    "pause": Viewer._pause,
    "step": Viewer._single_step,
    "speed": Viewer._set_speed,
    "greedy": Viewer._set_greedy,
    "epsilon": Viewer._set_epsilon,
    "seed": Viewer._set_seed,
    "new": Viewer._new_episode,
    "weights": Viewer._set_weights,
    "saliency": Viewer._set_saliency,
    "view": Viewer._set_view,
    "environment": Viewer._set_environment,
    "evaluation": Viewer._replay_evaluation,
    "capsule": Viewer._replay_capsule,
}


def _number(name: str, given: Any, low: float, high: float) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float) or not low <= given <= high:
        raise UsageError(f"{name} must be a number between {low:g} and {high:g}, not {str(given)[:40]!r}")
    return given


def _map_as_text(values: np.ndarray) -> dict[str, Any]:
    """Return a map [h, w] as base64 of bytes, 255 for its largest value."""
    scaled = (values * (255 / max(float(values.max()), 1e-12))).round().astype(np.uint8)
    return {"height": values.shape[0], "width": values.shape[1], "values": base64.b64encode(scaled.tobytes()).decode()}
