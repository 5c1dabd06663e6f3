"""A small Hugging Face Hub on 127.0.0.1: repositories are folders, with one commit each."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.server
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

__all__ = ["COMMIT", "hub"]

COMMIT = "c0ffee" + 34 * "0"
_FILE = re.compile(r"/([\w.-]+/[\w.-]+)/resolve/([^/]+)/(.+)")


class _Handler(http.server.BaseHTTPRequestHandler):
    """Serves files and takes commits, of which it keeps the files that are not too large for one."""

    root: Path

    def do_HEAD(self) -> None:
        self._serve(body=False)

    def do_GET(self) -> None:
        self._serve(body=True)

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"])) if "Content-Length" in self.headers else b""
        if self.path == "/api/repos/create":
            asked = json.loads(content)
            name = f"{asked['organization']}/{asked['name']}"
            (self.root / name).mkdir(parents=True, exist_ok=True)
            return self._answer({"url": f"http://{self.headers['Host']}/{name}"})
        if "/preupload/" in self.path:
            files = [
                {"path": one["path"], "uploadMode": "regular", "shouldIgnore": False}
                for one in json.loads(content)["files"]
            ]
            return self._answer({"files": files})
        if "/commit/" in self.path:
            name = "/".join(self.path.split("/")[3:5])
            repository = self.root / name
            for line in map(json.loads, content.splitlines()):
                if line["key"] == "file":
                    path = repository / line["value"]["path"]
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(base64.b64decode(line["value"]["content"]))
            address = f"http://{self.headers['Host']}/{name}/commit/{COMMIT}"
            return self._answer({"commitUrl": address, "commitOid": COMMIT, "success": True})
        return self._answer({})

    def _serve(self, *, body: bool) -> None:
        found = _FILE.fullmatch(self.path.partition("?")[0])
        if found is None:
            return self._answer({"sha": COMMIT, "id": "a/b", "siblings": []} if self.path.startswith("/api/") else None)
        repository, revision, name = found.groups()
        path = self.root / repository / name
        if not (self.root / repository).is_dir():
            return self._missing("RepoNotFound")
        if revision not in ("main", COMMIT):
            return self._missing("RevisionNotFound")
        if not path.is_file():
            return self._missing("EntryNotFound")
        content = path.read_bytes()
        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def _missing(self, code: str) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _answer(self, facts: Any) -> None:
        content = json.dumps(facts).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None: ...


@contextlib.contextmanager
def hub(root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let huggingface_hub use the repositories in `root`, as USER/NAME, and an empty `cache`."""
    constants = pytest.importorskip("huggingface_hub.constants", reason="pip install 'asyncrl[share]'")
    handler = type("Handler", (_Handler,), {"root": root})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        address = f"http://127.0.0.1:{server.server_address[1]}"
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
        monkeypatch.setenv("HF_TOKEN", "hf_of_the_tests")
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))  # half a second would pass before its end
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
