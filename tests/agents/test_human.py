"""Playing at the keyboard: keys become actions, games become a dataset."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from interrupted_runs import handled_by

from asyncrl.acting import datasets
from asyncrl.agents.human import Keyboard
from asyncrl.agents.video import Window
from asyncrl.api import play_yourself
from asyncrl.cli import main
from asyncrl.envs import View, describe

pygame = pytest.importorskip("pygame", reason="windows need it: pip install 'asyncrl[classic]'")


@pytest.fixture(autouse=True)
def _unseen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    (tmp_path / "shelf").mkdir()
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "shelf"))


def press(monkeypatch: pytest.MonkeyPatch, keys: dict[int, tuple[int, int]]) -> None:
    """Post key events when pictures are shown; `keys` maps the number of a picture to an event type and a key."""
    show, shown = Window.show, [0]

    def with_keys(self: Window, picture: object) -> None:
        if shown[0] in keys:
            what, key = keys[shown[0]]
            pygame.event.post(pygame.event.Event(what, key=key))
        shown[0] += 1
        self._pause = 0.0
        show(self, picture)  # type: ignore[arg-type]

    monkeypatch.setattr(Window, "show", with_keys)


def test_the_played_actions_are_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("minari", reason="datasets need it: pip install 'asyncrl[data]'")
    down, up = pygame.KEYDOWN, pygame.KEYUP
    press(monkeypatch, {0: (down, pygame.K_RIGHT), 1: (up, pygame.K_RIGHT), 2: (down, pygame.K_0), 3: (up, pygame.K_0),
                        4: (down, pygame.K_RIGHT)})  # fmt: skip
    played = play_yourself("worlds:Corridor-v0", episodes=2, out="corridor/me-v0")
    first, second = datasets.read("corridor/me-v0", describe("worlds:Corridor-v0"))
    assert first.action.tolist()[:6] == [1, 1, 0, 0, 1, 1]
    assert set(second.action.tolist()) == {1}
    assert played is not None
    assert list(played.returns) == pytest.approx([first.score, second.score])


def test_arrows_and_space_choose_ataris_actions(monkeypatch: pytest.MonkeyPatch) -> None:
    press(monkeypatch, {2: (pygame.KEYDOWN, pygame.K_RIGHT), 3: (pygame.KEYDOWN, pygame.K_SPACE), 5: (pygame.QUIT, 0)})
    seen: list[int] = []
    choose = Keyboard.action
    monkeypatch.setattr(Keyboard, "action", lambda self, pressed: seen.append(choose(self, pressed)) or seen[-1])
    assert play_yourself("ALE/Pong-v5") is None  # the window was closed
    assert seen == [0, 0, 2, 4, 4]  # nothing, right, right and fire


def test_sigterm_ends_the_command_once_the_episodes_before_it_are_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("minari", reason="datasets need it: pip install 'asyncrl[data]'")
    press(monkeypatch, {0: (pygame.KEYDOWN, pygame.K_RIGHT)})
    reset = View.reset

    def reset_or_end(self: View, seed: int) -> object:
        if seeds:
            signal.raise_signal(signal.SIGTERM)
        seeds.append(seed)
        return reset(self, seed)

    seeds: list[int] = []
    monkeypatch.setattr(View, "reset", reset_or_end)
    with handled_by(signal.SIG_DFL):
        code = main(["play", "worlds:Corridor-v0", "--human", "--episodes", "2", "--record", "corridor/mine-v0"])
    assert code == 128 + signal.SIGTERM
    assert len(datasets.read("corridor/mine-v0", describe("worlds:Corridor-v0"))) == 1


@pytest.mark.parametrize("draw", ["Window('a window', 30.0)", "view.picture()"])
def test_sigterm_ends_a_program_that_has_drawn(draw: str) -> None:
    program = (
        "import os, signal\nfrom asyncrl.agents.video import Window\nfrom asyncrl.envs import View, describe\n"
        f"view = View(describe('CartPole-v1'))\nview.reset(1)\n{draw}\nos.kill(os.getpid(), signal.SIGTERM)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -signal.SIGTERM


def test_record_needs_human_and_human_needs_discrete_actions(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["play", "pretrained/pong-a3c", "--record", "pong/me-v0"]) == 2
    assert "--record is for --human" in capsys.readouterr().err
    assert main(["play", "Pendulum-v1", "--human"]) == 2
    said = capsys.readouterr()
    assert "needs a single discrete action, but Pendulum-v1 has actions of 1 number within [-2, 2]" in said.err
    assert said.out == ""


def test_without_named_keys_digits_and_arrows_choose_actions() -> None:
    keyboard = Keyboard(4, keys={}, meanings=["left", "right", "forward", "toggle"])
    assert [keyboard.action({key}) for key in ("0", "3", "left", "right", "7")] == [0, 3, 0, 3, 2]
    assert keyboard.action(set()) == 2, "the middle one"
    pair = Keyboard(2, keys={}, meanings=[])
    assert [pair.action(pressed) for pressed in (set(), {"1"}, set())] == [0, 1, 1], "the previous one"


def test_where_the_keys_action_is_forbidden_an_allowed_one_is_taken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    press(monkeypatch, {0: (pygame.KEYDOWN, pygame.K_0)})
    played = play_yourself("masked_envs:Moves", episodes=2)
    assert played is not None
    assert len(played.returns) == 2
    assert "action 0 is not allowed now;" in capsys.readouterr().err
