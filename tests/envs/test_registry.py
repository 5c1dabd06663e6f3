from __future__ import annotations

import pytest

from asyncrl.envs import ids_by_family
from asyncrl.envs.family import Family
from asyncrl.envs.registry import FAMILIES, family_of


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_the_examples_of_a_family_are_its_environments(family: Family) -> None:
    ids = ids_by_family()[family.name]
    if not ids:
        pytest.skip(f"{family.name} is not installed")
    assert {family_of(env_id) for env_id in family.examples} == {family}
    assert set(family.examples) <= set(ids)


def test_ids_that_have_moved_to_another_package_are_not_listed() -> None:
    listed = ids_by_family()["gymnasium"]
    assert "Hopper-v5" in listed
    assert not {"Hopper-v2", "Hopper-v3", "HalfCheetah-v3"} & set(listed)
