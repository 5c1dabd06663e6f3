"""What several tests share."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import tempfile
import warnings
from pathlib import Path

from hypothesis import settings

HERE = str(Path(__file__).parent)
if HERE not in sys.path:
    sys.path.insert(0, HERE)
# Actors and command lines in processes of their own find `worlds` too, and open no window.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [HERE, os.environ.get("PYTHONPATH")]))
os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
_state = tempfile.TemporaryDirectory(prefix="asyncrl-tests-")  # the key that runs are signed with; workers have it too
os.environ["XDG_STATE_HOME"] = _state.name
settings.register_profile("asyncrl", deadline=None)  # a busy machine is no failure
settings.load_profile("asyncrl")

# Shells start background jobs with signals ignored; tests mean what a terminal sends.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

with warnings.catch_warnings(action="ignore"), contextlib.suppress(ImportError):
    importlib.import_module("Box2D")  # its types warn when they are made; as an error that takes the process down
