"""Actors in threads: errors on starting them."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from asyncrl.api import configure
from asyncrl.errors import UsageError
from asyncrl.launch import start


def test_more_threads_than_the_system_allows_are_refused_in_a_sentence_and_none_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin, begun = threading.Thread.start, list[str]()

    def begin_two_actors(thread: threading.Thread) -> None:
        if thread.name.startswith("actor-"):
            if len(begun) == 2:
                raise RuntimeError("can't start new thread")  # as Python says it
            begun.append(thread.name)
        begin(thread)

    monkeypatch.setattr(threading.Thread, "start", begin_two_actors)
    with pytest.raises(UsageError, match=r"^--actors 4: actor 2 could not be started \(can't start new thread\): reduce"):
        start(configure("worlds:Corridor-v0", "a3c", engine="threads", actors=4, steps=400), tmp_path / "run")
    assert begun == ["actor-0", "actor-1"]
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("actor-")] == []
