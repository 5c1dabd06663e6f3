"""Messages for errors of the operating system."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from asyncrl.common.os_errors import attach_path, describe_os_error
from asyncrl.common.serialization import write_atomically


def test_a_message_names_the_path_and_the_remedy(tmp_path: Path) -> None:
    with (
        pytest.raises(OSError, match="left") as full,
        attach_path(tmp_path / "metrics.jsonl"),
        open("/dev/full", "wb", 0) as file,
    ):
        file.write(b"a line")
    assert describe_os_error(full.value) == f"{tmp_path}/metrics.jsonl: No space left on device; free some space there"


def test_a_file_in_place_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "runs").touch()
    with pytest.raises(NotADirectoryError) as below_a_file:
        (tmp_path / "runs" / "a" / "b").mkdir(parents=True)
    assert describe_os_error(below_a_file.value).startswith(f"{tmp_path}/runs: Not a directory; a file stands where")


def test_a_folder_in_place_of_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(IsADirectoryError) as replaced:
        write_atomically(tmp_path / "metrics.jsonl", "")
    assert describe_os_error(replaced.value).startswith(f"{tmp_path}/metrics.jsonl: Is a directory; a folder stands where")


def test_the_file_to_write_is_named_rather_than_the_temporary_one(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 253)  # the name of the temporary file is longer than 255 bytes
    with pytest.raises(OSError, match="too long") as refused:
        write_atomically(path, "")
    assert describe_os_error(refused.value) == f"{path}: File name too long; shorten it"


def test_what_is_in_the_way_of_a_temporary_file_is_named(tmp_path: Path) -> None:
    (tmp_path / ".latest.tmp").mkdir()
    with pytest.raises(IsADirectoryError) as refused:
        write_atomically(tmp_path / "latest", "")
    assert describe_os_error(refused.value).startswith(f"{tmp_path}/.latest.tmp: Is a directory; a folder stands where")


def test_errors_without_a_path() -> None:
    assert "ulimit -n" in describe_os_error(OSError(errno.EMFILE, os.strerror(errno.EMFILE), "/usr/lib/python/x.py"))
    assert describe_os_error(BrokenPipeError(errno.EPIPE, "Broken pipe")).startswith("standard output: Broken pipe; ")
    assert describe_os_error(OSError("a package's message\nand more")) == "a package's message"
