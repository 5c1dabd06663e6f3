"""Code named by a file runs only if this user created the file, or trusts it explicitly."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from forged_runs import forged

import asyncrl
from asyncrl.acting import datasets
from asyncrl.api import configure
from asyncrl.cli import main
from asyncrl.common import signing
from asyncrl.envs import describe
from asyncrl.envs.supervision import capsule
from asyncrl.envs.supervision.worker import Failure, FailureKind
from asyncrl.errors import UsageError
from asyncrl.launch import resume, start
from asyncrl.runs.checkpoints import checkpoint
from asyncrl.runs.run import Run

SPY = "import pathlib\npathlib.Path({path!r}).touch()\ndef make(**kwargs):\n    raise SystemExit\nclass Bot: ...\n"
Change = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module")
def cartpole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    settings: dict[str, Any] = dict(steps=160, actors=1, envs_per_actor=4, engine="serial", eval_episodes=0)
    return start(configure("CartPole-v1", "a3c", **settings), tmp_path_factory.mktemp("trust") / "run")[0]


@pytest.fixture
def spy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module `spy` that leaves a file when it is imported."""
    trace = tmp_path / "HAPPENED"
    (tmp_path / "spy.py").write_text(SPY.format(path=str(trace)))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    sys.modules.pop("spy", None)
    return trace


def environment(env: str, **settings: Any) -> Change:
    def change(manifest: dict[str, Any]) -> None:
        manifest["contract"].update(env=env, backend="sync", settings=settings)
        manifest["config"]["env"] = env
        manifest["config"]["environment"].update(
            imports=settings.get("imports", []), env_kwargs=json.dumps(settings["kwargs"]) if "kwargs" in settings else None
        )

    return change


def family(name: str, env: str, **settings: Any) -> Change:
    def change(manifest: dict[str, Any]) -> None:
        environment(env, **settings)(manifest)
        manifest["contract"].update(family=name, screen_size=84)

    return change


def first_of_two(manifest: dict[str, Any]) -> None:
    """The untrusted environment is not the first one."""
    other = json.loads(json.dumps(manifest["contract"]))
    environment("spy:make")(manifest)
    manifest["contract"], other["others"] = other, [manifest["contract"]]


OUTSIDE: dict[str, Change] = {
    "a function": environment("spy:make"),
    "a function of the standard library": environment("os:system", kwargs={"command": "touch HAPPENED"}),
    "a module before an id": environment("spy:CartPole-v1"),
    "an import": environment("CartPole-v1", imports=["spy"]),
    "an id that takes another id": environment("GymV26Environment-v0", kwargs={"env_id": "spy:Id-v0"}),
    "text deep in the arguments": environment("CartPole-v1", kwargs={"a": [0, [{"spy": 0}]]}),
    "a program": family("vizdoom", "VizdoomBasic-v1", kwargs={"vizdoom_path": "spy.py"}),
    "a scenario": family("vizdoom", "spy.cfg"),
}


@pytest.mark.parametrize("change", OUTSIDE.values(), ids=OUTSIDE.keys())
def test_what_a_strangers_run_names_is_not_run_by_any_command(
    cartpole: Run, tmp_path: Path, spy: Path, change: Change, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(forged(cartpole, tmp_path / "run", change).path)
    commands = [
        ["evaluate", run, "--episodes", "1"],
        ["evaluate", run, "--episodes", "1", "--episode-steps", "9", "--force"],
        ["play", run, "--video", "game.gif", "--max-steps", "2"],
        ["record", run, "--out", "any/game-v0", "--episodes", "1"],
        ["train", "--resume", run, "--steps", "320"],
    ]
    for command in commands:
        assert main(command) == 2
        said = capsys.readouterr().err
        assert "was not made by you" in said
        assert "--trust" in said
        assert len(said.strip().splitlines()) == 1
    assert not list(tmp_path.rglob("HAPPENED*"))


def learner(table: str, key: str, name: str) -> Change:
    return lambda manifest: manifest["config"][table].update({key: name})


LEARNERS: dict[str, Change] = {
    "a network": learner("network", "network", "spy:make"),
    "a network of the standard library": learner("network", "network", "os:system"),
    "a program": learner("network", "network", "subprocess:Popen"),
    "a download": learner("network", "network", "torch.hub:load"),
    "an algorithm": learner("algorithm", "name", "spy:make"),
    "an algorithm in the run's folder": learner("algorithm", "name", "run.checkpoints.spy:make"),
}


@pytest.mark.parametrize("change", LEARNERS.values(), ids=LEARNERS.keys())
def test_a_strangers_network_and_algorithm_are_imported_by_no_command(
    cartpole: Run, tmp_path: Path, spy: Path, change: Change, capsys: pytest.CaptureFixture[str]
) -> None:
    run = forged(cartpole, tmp_path / "run", change).path
    (run / "checkpoints" / "spy.py").write_text((tmp_path / "spy.py").read_text())
    folder = str(run)
    commands = [
        ["evaluate", folder, "--episodes", "1"],
        ["play", folder, "--video", "game.gif", "--max-steps", "2"],
        ["record", folder, "--out", "any/game-v0", "--episodes", "1"],
        ["inspect", folder],
        ["train", "--resume", folder, "--steps", "320"],
        ["train", "a3c", "CartPole-v1", "--init-from", folder, "--steps", "80", "--eval-episodes", "0", "--no-video"],
    ]
    for command in commands:
        assert main(command) == 2, command
        said = capsys.readouterr().err
        assert re.search(r'was not made by you .* (network|algorithm) "', said), said
        assert len(said.strip().splitlines()) == 1
    with pytest.raises(UsageError, match="was not made by you"):
        asyncrl.load(run)
    assert not spy.exists()
    assert not list(tmp_path.rglob("HAPPENED*"))


SETTINGS = {
    "an environment": ('env = "CartPole-v1"', 'env = "spy:make"'),
    "an import": ("imports = []", 'imports = ["spy"]'),
    "an algorithm": ('name = "a3c"', 'name = "spy:make"'),
    "a network": ('network = "mlp"', 'network = "spy:make"'),
}


@pytest.mark.parametrize("change", SETTINGS.values(), ids=SETTINGS.keys())
def test_the_settings_in_a_strangers_run_folder_run_nothing(
    cartpole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spy: Path, change: tuple[str, str]
) -> None:
    folder = Path(shutil.copytree(cartpole.path, tmp_path / "run"))
    settings = (folder / "config.toml").read_text()
    assert change[0] in settings
    (folder / "config.toml").write_text(settings.replace(*change))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another user"))
    train = ["train", "--config", str(folder / "config.toml")]
    for more in ([], ["--help"], ["--print-config"], ["--frame-skip", "3"]):
        assert main([*train, *more]) == 2
    with pytest.raises(UsageError, match="was not made by you"):
        asyncrl.train(config=folder / "config.toml")
    assert not spy.exists()


@pytest.mark.parametrize(("algorithm", "network"), [("own_algorithms:Plain", "auto"), ("a3c", "own_networks:Encoder")])
def test_ones_own_network_and_algorithm_need_no_trust_and_a_strangers_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, algorithm: str, network: str
) -> None:
    settings: dict[str, Any] = dict(steps=160, actors=1, envs_per_actor=4, engine="serial", eval_episodes=0)
    run, _ = start(configure("CartPole-v1", algorithm, network=network, **settings), tmp_path / "run")
    assert len(asyncrl.evaluate(run.path, 2).returns) == 2
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another user"))
    for use in (asyncrl.load, asyncrl.evaluate, asyncrl.resume):
        with pytest.raises(UsageError, match="add --trust"):
            use(run.path)
    with pytest.raises(UsageError, match="was not made by you"):
        asyncrl.train(config=run.path / "config.toml", run_dir=tmp_path / "other")
    assert len(asyncrl.evaluate(run.path, 2, trust=True).returns) == 2
    assert main(["inspect", str(run.path), "--trust"]) == 0
    same = configure("CartPole-v1", algorithm, network=network, **settings, init_from=str(run.path))
    start(same, tmp_path / "the same names")
    resumed = asyncrl.resume(run.path, steps=480, checkpoint_every=80, keep_checkpoints=1, trust=True)
    assert checkpoint.load(resumed.marked("latest")).step >= 480


def test_other_named_code_is_not_run_either(cartpole: Run, tmp_path: Path, spy: Path) -> None:
    def bot(manifest: dict[str, Any]) -> None:
        manifest["config"]["bots"]["bot"] = "spy:Bot"

    def capsules(manifest: dict[str, Any]) -> None:
        manifest["config"]["environment"]["supervision"]["capsules"] = "/"

    with pytest.raises(UsageError, match='bot "spy:Bot"'):
        resume(forged(cartpole, tmp_path / "bot", bot).path, steps=320)
    with pytest.raises(UsageError, match="a folder for crash capsules"):
        resume(forged(cartpole, tmp_path / "capsules", capsules).path, steps=320)
    mixed = asyncrl.load(forged(cartpole, tmp_path / "mixed", first_of_two).path)
    with pytest.raises(UsageError, match='environment "spy:make"'):
        asyncrl.evaluate(mixed, 1, env="spy:make")
    assert not spy.exists()


def test_acting_and_inspecting_run_nothing_and_need_no_trust(cartpole: Run, tmp_path: Path, spy: Path) -> None:
    run = forged(cartpole, tmp_path / "run", environment("spy:make")).path
    assert asyncrl.load(run).act(np.zeros(4, np.float32)) in (0, 1)
    assert main(["inspect", str(run)]) == 0
    start(
        configure("CartPole-v1", "a3c", steps=80, eval_episodes=0, init_from=str(run), engine="serial"), tmp_path / "next"
    )
    assert not spy.exists()


@pytest.mark.parametrize(
    "change", [environment("CartPole-v1"), environment("CartPole-v1", kwargs={"sutton_barto_reward": True})]
)
def test_a_strangers_run_that_names_nothing_of_his_own_is_played(cartpole: Run, tmp_path: Path, change: Change) -> None:
    assert len(asyncrl.evaluate(forged(cartpole, tmp_path / "run", change).path, 2).returns) == 2


def test_a_strangers_run_is_run_where_the_user_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings: dict[str, Any] = dict(steps=160, actors=1, envs_per_actor=4, engine="serial", eval_episodes=0)
    run = start(configure("worlds:Corridor-v0", "a3c", **settings), tmp_path / "run")[0].path
    assert len(asyncrl.evaluate(run, 2).returns) == 2  # the user's own run
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another user"))
    with pytest.raises(UsageError, match='environment "worlds:Corridor-v0"'):
        asyncrl.evaluate(run, 2)
    with pytest.raises(UsageError, match="trust=True"):
        resume(run, steps=320)
    assert len(asyncrl.evaluate(run, 2, trust=True).returns) == 2
    assert len(asyncrl.evaluate(asyncrl.load(run, trust=True), 2).returns) == 2
    assert main(["evaluate", str(run), "--episodes", "1", "--trust"]) == 0
    assert resume(run, steps=320, trust=True)[1] is not None
    assert len(asyncrl.evaluate(run, 2).returns) == 2  # now it is the user's own


def test_a_signature_is_of_the_whole_manifest(cartpole: Run, tmp_path: Path) -> None:
    assert checkpoint.load(cartpole.checkpoints()[-1]).contract.untrusted_source is None
    for name, value in {"step": 161, "asyncrl": "0.0.0", "seconds": 0.5}.items():
        path = forged(cartpole, tmp_path / name, lambda manifest, n=name, v=value: manifest.update({n: v})).checkpoints()[
            -1
        ]
        assert checkpoint.load(path).contract.untrusted_source == str(path)


def test_an_export_of_a_strangers_checkpoint_is_still_a_strangers(cartpole: Run, tmp_path: Path) -> None:
    own = cartpole.checkpoints()[-1]
    stranger = forged(cartpole, tmp_path / "run", environment("spy:make")).checkpoints()[-1]
    for path, name in ((own, "own"), (stranger, "stranger")):
        checkpoint.export(checkpoint.load(path), tmp_path / name)
    assert checkpoint.load(tmp_path / "own").contract.untrusted_source is None
    assert checkpoint.load(tmp_path / "stranger").contract.untrusted_source is not None


def capsule_of(folder: Path, **changes: Any) -> Path:
    contract = describe("CartPole-v1")
    written = capsule.write(
        folder,
        {**asyncrl.common.serialization.to_json(contract), **changes},
        seed=1,
        options=None,
        actions=[np.int64(0)],
        action_space=gymnasium.spaces.Discrete(2),
        failure=Failure(FailureKind.RAISED, "raised"),
    )
    return written


def test_a_strangers_capsule_runs_nothing_that_it_names(
    tmp_path: Path, spy: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = capsule_of(tmp_path / "own")
    assert capsule.load(own).untrusted_source is None
    stranger = capsule_of(tmp_path / "other", env="spy:make")
    stranger.write_text(stranger.read_text().replace('"seed": 1', '"seed": 2'))
    assert main(["repro", str(stranger)]) == 2
    assert '"spy:make"' in capsys.readouterr().err
    assert not spy.exists()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another user"))
    assert main(["repro", str(own)]) == 1  # it names no code, and does not fail here
    main(["repro", str(stranger), "--trust"])
    assert spy.exists()


def test_a_dataset_that_names_an_environment_and_no_spaces_is_refused(
    tmp_path: Path, spy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "shelf"))
    data = tmp_path / "shelf" / "any" / "evil-v0" / "data"
    data.mkdir(parents=True)
    spec = {"id": "Evil-v0", "entry_point": "spy:make", "additional_wrappers": [], "kwargs": {}}
    facts = {"total_episodes": 0, "total_steps": 0, "data_format": "hdf5", "env_spec": json.dumps(spec)}
    (data / "metadata.json").write_text(json.dumps(facts))
    with pytest.raises(UsageError, match="has no valid observation_space"):
        datasets.read("any/evil-v0", describe("CartPole-v1"))
    assert not spy.exists()


def test_the_key_is_the_users_alone_and_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert not signing.is_signed("any", "text", "00")
    assert not list(tmp_path.iterdir())  # checking a signature creates no key
    signed = signing.sign("any", "text")
    assert signing.key_file().stat().st_mode & 0o777 == 0o600
    assert [path.name for path in signing.key_file().parent.iterdir()] == ["key"]
    assert signing.sign("any", "text") == signed
    assert signing.is_signed("any", "text", signed)
    for kind, text, given in (
        ("other", "text", signed),
        ("any", "Text", signed),
        ("any", "text", "é"),
        ("any", "text", None),
    ):
        assert not signing.is_signed(kind, text, given)


@pytest.mark.parametrize("harm", ["readable to others", "empty", "a link", "a folder"])
def test_a_key_that_others_may_know_signs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: str) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    signed, key = signing.sign("any", "text"), signing.key_file()
    if harm == "readable to others":
        key.chmod(0o644)
    elif harm == "empty":
        key.write_bytes(b"")
    else:
        key.rename(tmp_path / "elsewhere")
        key.symlink_to(tmp_path / "elsewhere") if harm == "a link" else key.mkdir()
    assert signing.sign("any", "text") == ""
    assert not signing.is_signed("any", "text", signed)


def test_without_a_home_to_keep_a_key_in_a_run_is_made_unsigned_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    settings: dict[str, Any] = dict(steps=80, actors=1, envs_per_actor=4, engine="serial", eval_episodes=0)
    run, _ = start(configure("worlds:Corridor-v0", "a3c", **settings), tmp_path / "run")
    assert "cannot be signed" in (run.path / "log.txt").read_text()
    assert checkpoint.load(run.checkpoints()[-1]).contract.untrusted_source is not None
    own, _ = start(configure("CartPole-v1", "a3c", **settings), tmp_path / "cartpole")
    assert "cannot be signed" not in (own.path / "log.txt").read_text()


def test_who_wrote_a_contract_is_no_part_of_it() -> None:
    contract = describe("CartPole-v1")
    stranger = contract.with_source("run")
    assert stranger == contract
    assert asyncrl.common.serialization.to_json(stranger) == asyncrl.common.serialization.to_json(contract)
    assert contract.differences(stranger) == []
    assert dataclasses.replace(stranger, frame_skip=2).untrusted_source == "run"


def forget_checkpoints(run: Run) -> None:
    """Leave the run as it was before its first checkpoint."""
    for path in run.checkpoints():
        checkpoint.delete(path)
    (run.path / "latest").unlink()


def test_a_run_that_has_no_checkpoint_yet_is_begun_again_where_it_is_ones_own(tmp_path: Path, spy: Path) -> None:
    settings: dict[str, Any] = dict(steps=80, actors=1, envs_per_actor=4, engine="serial", eval_episodes=0)
    run = start(configure("worlds:Corridor-v0", "a3c", **settings), tmp_path / "run")[0]
    forget_checkpoints(run)
    assert resume(run.path)[1] is not None
    forget_checkpoints(run)
    file = run.path / "config.json"
    file.write_text(file.read_text().replace("worlds:Corridor-v0", "spy:make"))
    with pytest.raises(UsageError, match=r'config\.json was not made by you .* environment "spy:make"'):
        resume(run.path)
    assert not spy.exists()
