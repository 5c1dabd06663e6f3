"""Each family has its own options; those of another family are refused by name."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from asyncrl.cli import main
from asyncrl.common.serialization import to_json
from asyncrl.envs import Backend, EnvOptions, describe, make
from asyncrl.envs.families.atari import AtariOptions
from asyncrl.envs.families.pixels import StackOptions
from asyncrl.envs.family_options import combined_options, convert, merge, option_names, read_options
from asyncrl.envs.registry import FAMILIES, claiming_family, family_named
from asyncrl.errors import UsageError
from asyncrl.runs.config.run_config import RunConfig
from asyncrl.runs.config.settings import configure

PONG = "ALE/Pong-v5"

OLD = {
    **dict.fromkeys(option_names() - {f.name for f in dataclasses.fields(EnvOptions)}),
    **to_json(EnvOptions()),
}
"""The table of version 0.1.0, which listed the options of every family."""


@pytest.mark.parametrize(("env", "options"), [(PONG, AtariOptions), ("CartPole-v1", EnvOptions), ("x.cfg", None)])
def test_an_old_table_is_read_as_the_options_of_the_environments_family(env: str, options: Any) -> None:
    assert type(read_options(env, OLD)) is (options or family_named("vizdoom").options)
    assert read_options(env, OLD | {"reward_scale": 2.0}).reward_scale == 2


def test_a_table_with_every_option_of_one_family_is_of_that_family_whatever_is_installed() -> None:
    assert read_options("Pong-v4", to_json(AtariOptions(sticky=0.5))) == AtariOptions(sticky=0.5)


def test_a_few_options_are_enough() -> None:
    assert read_options(PONG, {"sticky": 0.5}) == AtariOptions(sticky=0.5)
    assert read_options("CartPole-v1", {}) == EnvOptions()
    with pytest.raises(UsageError, match=r"^environment\.stciky is not a field of AtariOptions; did you mean 'sticky'"):
        read_options(PONG, {"stciky": 0.5})


def test_envpool_has_its_own_options() -> None:
    options = read_options("CartPole-v1", {"env_backend": "envpool", "frame_stack": 2})
    assert options == StackOptions(env_backend=Backend.ENVPOOL, frame_stack=2)


def test_a_configuration_keeps_the_options_of_its_environment() -> None:
    config = configure(PONG, "a3c", sticky=0.5, protocol="raw")
    assert isinstance(config.environment, AtariOptions)
    assert RunConfig.from_json(config.to_json()) == config
    assert config.to_json()["environment"].keys() == {field.name for field in dataclasses.fields(AtariOptions)}


@pytest.mark.parametrize("name", sorted(option_names() - {f.name for f in dataclasses.fields(EnvOptions)}))
def test_an_option_of_another_family_is_refused_with_the_families_that_have_it(name: str) -> None:
    """By the command line before anything else, and by `describe` for settings from Python and from files."""
    options = merge(EnvOptions(), combined_options()(**{name: 1}))
    with pytest.raises(
        UsageError, match=rf"CartPole-v1 takes no --{name.replace('_', '-')} \(given: 1\): it is an option of"
    ):
        convert(options, claiming_family("CartPole-v1"), "CartPole-v1")


def test_the_command_line_names_the_families_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "a3c", "CartPole-v1", "--sticky", "0.5"]) == 2
    assert "CartPole-v1 takes no --sticky: it is an option of atari environments" in capsys.readouterr().err


def test_help_shows_the_options_of_the_environment_alone(capsys: pytest.CaptureFixture[str]) -> None:
    for env, shown in (("CartPole-v1", False), (PONG, True)):
        assert main(["train", "a3c", env, "--help-all"]) == 0
        text = capsys.readouterr().out
        assert ("--sticky" in text) is shown
        assert "--stuck-steps" not in text
        assert "--reward-clip" in text


def test_what_a_family_cannot_do_is_refused_with_the_remedy() -> None:
    with pytest.raises(UsageError, match=r"ALE/Pong-v5 takes no --episode-steps \(given: 9\): use --episode-frames"):
        describe(PONG, EnvOptions(episode_steps=9))


def test_rules_of_another_family_are_merged_and_then_refused() -> None:
    merged = merge(AtariOptions(sticky=0.5), EnvOptions(reward_scale=2.0))
    assert merged == AtariOptions(sticky=0.5, reward_scale=2.0)
    both = merge(AtariOptions(sticky=0.5), family_named("mario").options(stuck_steps=3))  # type: ignore[call-arg]
    with pytest.raises(UsageError, match="takes no --stuck-steps"):
        convert(both, family_named("atari"), PONG)


def test_families_defaults_are_none_so_that_old_tables_can_be_told_apart() -> None:
    base = {field.name for field in dataclasses.fields(EnvOptions)}
    for family in FAMILIES:
        own = [field for field in dataclasses.fields(family.options) if field.name not in base]
        assert all(field.default is None for field in own)


def test_make_takes_the_options_of_the_family() -> None:
    envs = make(PONG, 1, frame_stack=2, protocol="machado2018")
    assert envs.single_observation_space.shape == (2, 84, 84)
    envs.close()
    with pytest.raises(UsageError, match="sticki is not an environment option; did you mean 'sticky'"):
        make(PONG, 1, sticki=1)


@pytest.mark.parametrize(
    "option", [dict(standardize=100), dict(reward_clip=1.0), dict(reward_scale=2.0), dict(final_reward=1.0)]
)
def test_make_refuses_what_only_learning_depends_on(option: dict[str, Any]) -> None:
    (name,) = option
    with pytest.raises(UsageError, match=f"^asyncrl.envs.make takes no {name}: it changes what an agent learns from"):
        make("CartPole-v1", 1, **option)
