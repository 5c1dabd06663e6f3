"""The files in deploy/: Ray's and KubeRay's fields, versions, and commands that this package has."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from asyncrl.api import configure
from asyncrl.cli.options import read_values
from asyncrl.cli.train import split_command
from asyncrl.cli.train_options import train_options
from asyncrl.version import __version__

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
RAY = re.search(r"^ray==(.+)$", (ROOT / "constraints.txt").read_text(), re.M)[1]  # type: ignore[index]
# https://ray-project.github.io/kuberay/reference/api/, 2026-11
RAY_JOB = {
    "entrypoint",
    "submissionMode",
    "backoffLimit",
    "shutdownAfterJobFinishes",
    "ttlSecondsAfterFinished",
    "rayClusterSpec",
}
RAY_CLUSTER = {"rayVersion", "headGroupSpec", "workerGroupSpecs"}
HEAD = {"serviceType", "rayStartParams", "template"}
WORKERS = {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}


@pytest.fixture(scope="module")
def kuberay() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / "kuberay.yaml").read_text()))


def test_the_cluster_file_fits_the_schema_of_ray() -> None:
    ray = pytest.importorskip("ray")
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    cluster = yaml.safe_load((DEPLOY / "ray-cluster.yaml").read_text())
    jsonschema.validate(cluster, schema)
    (mounted,) = cluster["file_mounts"]
    assert cluster["head_node_type"] in cluster["available_node_types"]
    assert {"--env=RAY_AUTH_MODE=token", f"--env=RAY_AUTH_TOKEN_PATH={mounted}"} <= set(cluster["docker"]["run_options"])


def test_the_job_has_fields_that_kuberay_knows(kuberay: list[dict[str, Any]]) -> None:
    job, fence = kuberay
    assert (job["apiVersion"], job["kind"], fence["kind"]) == ("ray.io/v1", "RayJob", "NetworkPolicy")
    cluster = job["spec"]["rayClusterSpec"]
    assert job["spec"].keys() <= RAY_JOB
    assert cluster.keys() <= RAY_CLUSTER
    assert cluster["headGroupSpec"].keys() <= HEAD
    assert all(group.keys() <= WORKERS for group in cluster["workerGroupSpecs"])


def test_every_pod_asks_for_the_token_and_none_is_public(kuberay: list[dict[str, Any]]) -> None:
    cluster = kuberay[0]["spec"]["rayClusterSpec"]
    pods = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for pod in pods:
        spec = pod["template"]["spec"]
        (container,) = spec["containers"]
        names = {entry["name"]: entry for entry in container["env"]}
        assert names["RAY_AUTH_MODE"]["value"] == "token"
        assert "secretKeyRef" in names["RAY_AUTH_TOKEN"]["valueFrom"]
        assert pod["template"]["metadata"]["labels"] == kuberay[1]["spec"]["podSelector"]["matchLabels"]
        assert spec["terminationGracePeriodSeconds"] > 0
    assert cluster["headGroupSpec"]["serviceType"] == "ClusterIP"


def test_versions_agree(kuberay: list[dict[str, Any]]) -> None:
    assert kuberay[0]["spec"]["rayClusterSpec"]["rayVersion"] == RAY
    assert f'"ray[default]=={RAY}"' in (DEPLOY / "Dockerfile").read_text()
    images = re.findall(r"asyncrl-ray:(\S+)", "".join(path.read_text() for path in DEPLOY.glob("*.yaml")))
    assert images
    assert set(images) == {__version__}


@pytest.mark.parametrize("name", ["ray-cluster.yaml", "kuberay.yaml"])
def test_commands_are_those_of_this_package(name: str, kuberay: list[dict[str, Any]]) -> None:
    text = kuberay[0]["spec"]["entrypoint"] if name == "kuberay.yaml" else (DEPLOY / name).read_text()
    commands = re.findall(r"asyncrl train ([^|&\"']+)", text)
    assert commands
    for words in map(shlex.split, commands):
        if words[0] == "--resume":
            base, rest = configure("ALE/Pong-v5", "ppo"), words[2:]
        else:
            named = split_command(words)
            base, rest = configure(named.env or "", named.algorithm, named.preset), named.options
        values = read_values(train_options(base), rest)
        assert values["engine"].value == "ray"
        assert values["ray_address"] == "auto"


@pytest.mark.parametrize(
    ("script", "succeeds"),
    [
        ("", True),
        ("[ $2 != --resume ]", True),  # the storage has no run yet
        ("exit 1", False),
        ("mkdir -p runs/pong; echo SIGTERM > runs/pong/interrupted", False),
    ],
)
def test_the_job_succeeds_only_if_the_run_is_complete(
    tmp_path: Path, kuberay: list[dict[str, Any]], script: str, succeeds: bool
) -> None:
    program = tmp_path / "bin" / "asyncrl"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(kuberay[0]["spec"]["entrypoint"], shell=True, cwd=tmp_path, env={**os.environ, "PATH": path})
    assert (done.returncode == 0) is succeeds
