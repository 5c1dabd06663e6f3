#!/usr/bin/env python3
"""Follow the Dockerfile and the README on a bare Debian, without Docker.

    sudo python3 benchmarks/bare_machine.py --tests

Needs root, git and `debootstrap`. Creates a bare Debian in a temporary folder, follows the Dockerfile's steps in it, runs
the image's command as its user, and then, in a fresh clone of this repository's last commit, the README's `make train`
(short) and, with --tests, `make test`. Prints every step with its seconds and exit status and writes them to
benchmarks/results/bare-machine.json.

The host's settings for reaching packages (pip and apt configuration, proxies, certificates, name resolution) are passed on.
Every step has separate mounts that end with it, so the folder removed at the end never has anything mounted in it.
"""

from __future__ import annotations

import argparse
import configparser
import json
import os
import platform
import re
import shlex
import shutil
import signal
import string
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, ParamSpec

REPOSITORY = Path(__file__).resolve().parents[1]
RESULT = REPOSITORY / "benchmarks" / "results" / "bare-machine.json"
INSTRUCTIONS = ("FROM", "ARG", "ENV", "RUN", "COPY", "USER", "WORKDIR", "ENTRYPOINT")
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NEW_NAMESPACES = ("unshare", "--mount", "--pid", "--fork", "--kill-child")
CERTIFICATES = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
README_PACKAGES = "apt-get update && apt-get install -y --no-install-recommends python3-venv make"

P = ParamSpec("P")


class Failure(Exception):
    """A step that cannot be followed; the message is one sentence."""


@dataclass(frozen=True)
class Instruction:
    name: str
    value: str


def parse(dockerfile: str) -> list[Instruction]:
    """The instructions in order, with continued lines joined as Docker joins them."""
    instructions, pending = [], ""
    for line in dockerfile.splitlines():
        if line.lstrip().startswith("#") or not (pending or line.strip()):
            continue
        if line.endswith("\\"):
            pending += line[:-1]
            continue
        name, _, value = (pending + line).strip().partition(" ")
        pending = ""
        if name not in INSTRUCTIONS:
            raise Failure(f"The Dockerfile's instruction {name} is not among those known here: {', '.join(INSTRUCTIONS)}.")
        instructions.append(Instruction(name, value.strip()))
    return instructions


def assignments(value: str) -> dict[str, str]:
    """Parse `A=1 B="two words"`, the form of ARG and ENV."""
    return dict(word.partition("=")[::2] for word in shlex.split(value))


@dataclass(frozen=True)
class Host:
    """The host's settings for reaching packages."""

    variables: dict[str, str]
    folders: frozenset[Path]
    """Local package folders, mounted read-only at the same paths."""
    certificates: Path | None


def host() -> Host:
    variables = _pip_configuration() | {
        name: value for name, value in os.environ.items() if name.startswith("PIP_") or name.lower().endswith("_proxy")
    }
    variables.pop("PIP_CONFIG_FILE", None)
    folders = {folder for folder in _local(variables.get("PIP_FIND_LINKS", "")) if folder.is_dir()}
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        folders |= {index.parent for index in _local(variables.get(name, "")) if index.is_dir()}  # links lead beside it
    named = [variables.get(name) or os.environ.get(name) for name in CERTIFICATES]
    bundle = next((Path(path) for path in named if path and Path(path).is_file()), None)
    if bundle:
        variables |= dict.fromkeys(CERTIFICATES, "/etc/host-certificates.crt")
    return Host(variables, frozenset(folders), bundle)


def _pip_configuration() -> dict[str, str]:
    """pip's configuration files as the equivalent variables."""
    found: dict[str, str] = {}
    home = Path.home()
    files = [Path("/etc/xdg/pip/pip.conf"), Path("/etc/pip.conf"), home / ".pip/pip.conf", home / ".config/pip/pip.conf"]
    for file in [*files, Path(os.environ.get("PIP_CONFIG_FILE", os.devnull))]:
        parser = configparser.RawConfigParser()
        parser.read(file)
        for section in ("global", "install"):
            if parser.has_section(section):
                found |= {f"PIP_{k.upper().replace('-', '_')}": " ".join(v.split()) for k, v in parser.items(section)}
    return found


def _local(value: str) -> Iterable[Path]:
    paths = (word.removeprefix("file://") for word in value.split())
    return (Path(path) for path in paths if path.startswith("/"))


@dataclass
class Machine:
    """A bare Debian in a folder."""

    root: Path
    host: Host
    arguments: dict[str, str] = field(default_factory=dict)
    """The Dockerfile's ARGs, visible to its steps but not in the finished image."""
    variables: dict[str, str] = field(default_factory=lambda: {"PATH": SEARCH_PATH})
    user: str = "root"
    folder: str = "/"
    entrypoint: list[str] = field(default_factory=list)

    def bootstrap(self, suite: str, mirror: str | None) -> int:
        command = [*NEW_NAMESPACES, "debootstrap", "--variant=minbase", suite, str(self.root)]
        if status := subprocess.run([*command, mirror] if mirror else command, check=False).returncode:
            return status
        for name in ("resolv.conf", "hosts"):
            shutil.copyfile(f"/etc/{name}", self.root / "etc" / name)
        if self.host.certificates:
            shutil.copyfile(self.host.certificates, self.root / "etc/host-certificates.crt")
        if shutil.which("apt-config"):
            settings = subprocess.run(["apt-config", "dump"], check=True, capture_output=True, text=True).stdout
            wanted = re.findall(r"^Acquire::(?:https?::|Check-).*$", settings, re.MULTILINE)
            (self.root / "etc/apt/apt.conf.d/99host").write_text("".join(f"{line}\n" for line in wanted))
        return 0

    def follow(self, step: Instruction, context: Path) -> int:
        """Do what `docker build` does for this instruction; returns the exit status."""
        value = step.value
        if step.name == "RUN":
            return self.run(["/bin/sh", "-c", value], self.arguments)
        if step.name == "ARG":
            self.arguments = assignments(value) | self.arguments
        elif step.name == "ENV":
            self.variables |= {name: self._expanded(text) for name, text in assignments(value).items()}
        elif step.name == "USER":
            self.user = self._expanded(value)
        elif step.name == "WORKDIR":
            self.folder = os.path.join(self.folder, self._expanded(value))
            self._inside(self.folder).mkdir(parents=True, exist_ok=True)
        elif step.name == "ENTRYPOINT":
            self.entrypoint = json.loads(value)
        elif step.name == "COPY":
            *sources, target = self._expanded(value).split()
            to = self._inside(os.path.join(self.folder, target))
            for source in (context / s for s in sources):
                if source.is_dir():
                    shutil.copytree(source, to, dirs_exist_ok=True)
                else:
                    shutil.copy(source, to / source.name if target.endswith("/") else to)
        return 0

    def run(self, command: list[str], variables: dict[str, str] | None = None, *, folder: str | None = None) -> int:
        """Run a command inside as the current user, with a container's mounts; returns the exit status."""
        owner = self.owner()
        inside = self.host.variables | {"HOME": owner[2]} | (variables or {}) | self.variables
        root = shlex.quote(str(self.root))
        lines = [
            "set -e",
            f"mount -t proc proc {root}/proc",
            f"mount -t sysfs -o ro sysfs {root}/sys",
            f"mount -t devpts -o newinstance,ptmxmode=0666 devpts {root}/dev/pts",
            f"mount -t tmpfs -o mode=1777,size=2g tmpfs {root}/dev/shm",
        ]
        for path in sorted(self.host.folders):
            there = shlex.quote(str(self._inside(str(path))))
            lines += [f"mkdir -p {there}", f"mount -o bind,ro {shlex.quote(str(path))} {there}"]
        change = ["chroot", f"--userspec={owner[0]}:{owner[1]}", "--groups=", str(self.root)]
        enter = ["/bin/sh", "-c", 'cd "$0" && exec "$@"', folder or self.folder, *command]
        lines.append("exec " + shlex.join([*change, *enter]))
        script = [*NEW_NAMESPACES, "sh", "-c", "\n".join(lines)]
        return subprocess.run(script, check=False, env=inside, stdin=subprocess.DEVNULL).returncode

    def owner(self) -> tuple[int, int, str]:
        """User id, group id and home of the current user."""
        for line in (self.root / "etc/passwd").read_text().splitlines():
            name, _, uid, gid, _, home, _ = line.split(":")
            if name == self.user:
                return int(uid), int(gid), home
        raise Failure(f"The Dockerfile's USER {self.user} is not in its /etc/passwd; add it by useradd.")

    def give(self, source: Path, path: str) -> int:
        """Copy a folder into the machine, owned by the current user."""
        uid, gid, _ = self.owner()
        to = self._inside(path)
        shutil.copytree(source, to, symlinks=True)
        for entry in (to, *to.rglob("*")):
            os.chown(entry, uid, gid, follow_symlinks=False)
        return 0

    def _expanded(self, text: str) -> str:
        return string.Template(text).substitute(self.arguments | self.variables)

    def _inside(self, path: str) -> Path:
        return self.root / path.lstrip("/")


@dataclass
class Report:
    steps: list[dict[str, Any]] = field(default_factory=list)

    def step(self, name: str, work: Callable[P, int], *args: P.args, **kwargs: P.kwargs) -> None:
        """Do the work and record the result; the first failure ends the run."""
        print(f"\n==> {name}", flush=True)
        begin = time.monotonic()
        status = work(*args, **kwargs)
        self.steps.append({"step": name, "seconds": round(time.monotonic() - begin, 1), "exit": status})
        if status:
            raise Failure(f"This step ended with exit status {status}: {name}")

    def show(self) -> None:
        print(f"\n{'seconds':>8}  exit  step")
        for step in self.steps:
            print(f"{step['seconds']:8.1f}  {step['exit']:4}  {step['step']}", flush=True)


def shortened(text: str, width: int = 90) -> str:
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 1] + "…"


def prove(options: argparse.Namespace, work: Path, report: Report) -> None:
    clone = work / "clone"
    report.step("git clone", subprocess.call, ["git", "clone", "--quiet", "--no-hardlinks", str(REPOSITORY), str(clone)])

    steps = parse((clone / "Dockerfile").read_text())
    machine = Machine(work / "root", host(), assignments(shlex.join(options.build_arg)))
    for step in steps:
        name = shortened(f"{step.name} {step.value}")
        if step.name == "FROM":
            suite = step.value.rpartition(":")[2].removesuffix("-slim")
            report.step(f"{name} (debootstrap)", machine.bootstrap, suite, options.mirror)
        else:
            report.step(name, machine.follow, step, clone)

    image = " ".join(machine.entrypoint)
    for command in ("doctor", "train a3c CartPole-v1 --steps 20000", "train a3c ALE/Pong-v5 --steps 5000"):
        report.step(f"{image} {command}", machine.run, [*machine.entrypoint, *command.split()])

    user, machine.variables = machine.user, {"PATH": SEARCH_PATH}  # the README does not use the image's settings
    there = f"{machine.owner()[2]}/clone"
    machine.user = "root"
    report.step(README_PACKAGES, machine.run, ["/bin/sh", "-c", README_PACKAGES])
    machine.user = user
    report.step("a fresh clone in the user's home", machine.give, clone, there)
    for command in ('make train ARGS="--steps 20000"', *(["make test"] if options.tests else [])):
        report.step(command, machine.run, ["/bin/sh", "-c", command], folder=there)


def describe() -> dict[str, Any]:
    with open("/proc/cpuinfo") as file:
        model = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), platform.processor())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {"cpu": model, "cores": len(os.sched_getaffinity(0)), "memory_bytes": memory}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tests", action="store_true", help="run `make test` too, which takes minutes")
    parser.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE", help="as for `docker build`")
    parser.add_argument("--mirror", help="where debootstrap takes packages from; its own default otherwise")
    parser.add_argument("--folder", help="where the temporary folder is made; it needs 5 GB")
    options = parser.parse_args()
    if os.geteuid() != 0:
        return _refuse("bare_machine.py creates and enters another system, which needs root: run it with sudo.")
    if shutil.which("debootstrap") is None:
        return _refuse("debootstrap is missing: apt-get install debootstrap.")
    steps = parse((REPOSITORY / "Dockerfile").read_text())
    known = {name for step in steps if step.name == "ARG" for name in assignments(step.value)}
    if unknown := assignments(shlex.join(options.build_arg)).keys() - known:
        return _refuse(f"The Dockerfile has no ARG {', '.join(sorted(unknown))}; it has {', '.join(sorted(known))}.")
    os.umask(0o022)  # what root makes in there is for others to read
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the folder is removed then, too

    report, failure = Report(), None
    with tempfile.TemporaryDirectory(prefix="bare-machine-", dir=options.folder) as work:
        try:
            prove(options, Path(work), report)
        except Failure as problem:
            failure = str(problem)
        report.show()
        command = shlex.join(["benchmarks/bare_machine.py", *sys.argv[1:]])
        result = {"command": command, "date": date.today().isoformat(), "machine": describe(), "steps": report.steps}
        RESULT.write_text(json.dumps(result, indent=1) + "\n")
    return _refuse(failure) if failure else 0


def _refuse(sentence: str) -> int:
    print(sentence, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
