"""What is said of the user's modules that cannot be imported."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from asyncrl.common.named_code import load
from asyncrl.errors import UsageError

MODULES = {
    "class Net(object)\n    pass\n": r"importing broken raised SyntaxError: expected ':' \(broken.py, line 1\)",
    "import json\n\njson.loads('{')\n": r"importing broken raised JSONDecodeError: .* \(broken.py, line 3\)",
    "raise SystemExit('bye')\n": r"importing broken raised SystemExit: bye \(broken.py, line 1\)",
    "import no_such_package\n": "broken needs the module no_such_package, which is not installed",
    "from json import nothing\n": r"importing broken raised ImportError: cannot .*\(broken.py, line 1\)",
    "class Net: ...\n": "broken has no 'Nett'; did you mean 'Net'?",
    "Nett = None\n": "it is None; expected a class or a function",
}


@pytest.mark.parametrize("source", MODULES)
def test_what_is_wrong_with_a_module_is_said_with_the_users_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    (tmp_path / "broken.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "broken", raising=False)
    with pytest.raises(UsageError) as caught:
        load("broken:Nett", "--network", "asyncrl.networks")
    assert re.match(f"--network broken:Nett: {MODULES[source]}", str(caught.value)), str(caught.value)
    assert "\n" not in str(caught.value)
    sys.modules.pop("broken", None)


@pytest.mark.parametrize(
    ("name", "complaint"),
    {
        "./my/nets.py:Net": "'./my/nets.py' is not the name of a module; that of my/nets.py is my.nets",
        ".nets:Net": "'.nets' is not the name of a module; that of nets.py is nets",
        "nets:": "--network nets: is named module:Name",
        ":Net": "--network :Net is named module:Name",
    }.items(),
)
def test_a_path_is_no_name(name: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint.replace(".", r"\.")):
        load(name, "--network", "asyncrl.networks")


def test_a_module_elsewhere_is_said_to_be_looked_for_here() -> None:
    with pytest.raises(
        UsageError, match="there is no module 'zzzz'; its folder must be the working directory, or in PYTHONP"
    ):
        load("zzzz.nets:Net", "--network", "asyncrl.networks")
