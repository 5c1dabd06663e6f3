"""The command line, `asyncrl COMMAND …`: one module per command, imported on demand."""

from __future__ import annotations

import contextlib
import errno
import gc
import importlib
import signal
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from asyncrl.cli import streams
from asyncrl.cli.options import HELP, HelpShown, note_working_directory
from asyncrl.common.child_process import report_crashes
from asyncrl.common.os_errors import describe_os_error, is_of_users_code
from asyncrl.common.signals import TERMINATING, Terminated, defer_interrupts, end_by, raise_interrupts
from asyncrl.errors import AsyncRLError, DamageWarning, EnvironmentFault, SinkWarning, UsageError, suggestions
from asyncrl.version import __version__

__all__ = ["main", "run_and_exit"]

COMMANDS = {
    "train": "train an agent, or continue a run",
    "evaluate": "evaluate an agent over many episodes",
    "play": "watch an agent, in a window or as a video",
    "watch": "show runs on a live page in the browser",
    "record": "record an agent's or a bot's play as a dataset",
    "pretrain": "imitate a recorded dataset",
    "export": "write an agent as an ONNX model",
    "share": "write an agent with a model card, or upload it",
    "inspect": "show the contents of a run or checkpoint",
    "repro": "replay the episode of a crash capsule",
    "plot": "draw learning curves, distributions, losses, filters",
    "benchmark": "compare algorithms over several seeds, with a report",
    "compare": "compare two runs: settings, scores, video",
    "tune": "search for good settings",
    "bench": "measure speed: environment, acting, learning, end to end",
    "list": "list algorithms, envs, presets, networks, pretrained agents, runs",
    "doctor": "check this machine and installation",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns the exit code: 0 done, 1 a fault, 2 a usage error, 130 after Ctrl-C, 128 + its number after another signal that
    ended a command that does not train.
    """
    streams.prepare()
    arguments = [*(sys.argv[1:] if argv is None else argv)]  # `list` is a command here
    with raise_interrupts():
        try:
            code = _run(arguments)
            streams.flush()
            return code
        except UsageError as problem:
            return _complain(str(problem), 2)
        except EnvironmentFault as fault:
            return _complain(_with_notes(f"{fault.traceback}\n{fault}".strip(), fault), 1)
        except AsyncRLError as fault:
            return _complain(_with_notes(str(fault), fault), 1)
        except Terminated as end:
            streams.silence_if_broken()
            return 128 + end.number
        except KeyboardInterrupt:
            return _complain("stopped", 130)
        except SystemExit as end:
            return _ended(end)
        except OSError as problem:
            if is_of_users_code(problem):
                raise
            if isinstance(problem, BrokenPipeError):  # the reader closed the pipe, as in `asyncrl list envs | head`
                streams.silence()
                return _complain(describe_os_error(problem), 1) if _trains(arguments) else 0
            return _complain(describe_os_error(problem), 2 if problem.errno == errno.ENAMETOOLONG else 1)


def run_and_exit() -> NoReturn:
    """Run `main` and exit with its code."""
    gc.disable()  # until the command is imported: it would take a tenth of that time, and imports leave little garbage
    with report_crashes():
        code = main()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # another Ctrl-C must not replace the exit code by a traceback
    if code - 128 in TERMINATING:
        end_by(code - 128)  # so that the parent process sees the signal
    sys.exit(code)


def _run(arguments: Sequence[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        if arguments[1:] and arguments[1] != "help":
            return _run([*arguments[1:], "--help"])
        print(_help())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        print(f"asyncrl {__version__}")
        return 0
    command, rest = arguments[0], arguments[1:]
    note_working_directory()
    if command not in COMMANDS:
        raise UsageError(f"there is no command {command!r}{suggestions(command, COMMANDS)} (asyncrl --help)")
    with defer_interrupts():
        if command == "train":
            from asyncrl.cli import head_start

            head_start.begin(rest)
        module = importlib.import_module(f"asyncrl.cli.{command}")
        _collect_garbage_again()
    with _warnings_as_sentences():
        return int(module.run(rest))


def _trains(arguments: Sequence[str]) -> bool:
    """Whether the command starts a run, rather than only printing."""
    return arguments[:1] in (["train"], ["pretrain"]) and not {*HELP, "--print-config"} & set(arguments)


def _collect_garbage_again() -> None:
    """End what `run_and_exit` began. What was imported stays and is not searched again."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


@contextlib.contextmanager
def _warnings_as_sentences() -> Iterator[None]:
    """Print warnings about a run folder or a sink as messages, each once, and others as Python does."""
    show_default, shown = warnings.showwarning, set[str]()

    def show(message: Warning | str, category: type[Warning], *place: Any, **options: Any) -> None:
        if not issubclass(category, DamageWarning | SinkWarning):
            show_default(message, category, *place, **options)
        elif str(message) not in shown:
            shown.add(str(message))
            print(f"asyncrl: {message}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def _complain(sentence: str, code: int) -> int:
    streams.silence_if_broken()
    with contextlib.suppress(OSError):
        print(f"asyncrl: {sentence}", file=sys.stderr)
    return code


def _with_notes(sentence: str, fault: BaseException) -> str:
    """The sentence and the notes of the fault, which say what was saved."""
    return "\n".join([sentence, *getattr(fault, "__notes__", [])])


def _ended(end: SystemExit) -> int:
    """The exit code after `sys.exit`: 0 after a help page; a fault if other code called it."""
    if not isinstance(end, HelpShown):
        return _complain("".join(traceback.format_exception(end)) + "something called sys.exit", 1)
    streams.silence_if_broken()
    return int(end.code or 0)


def _help() -> str:
    rows = "\n".join(f"  {name:<11}{what}" for name, what in COMMANDS.items())
    return (
        "usage: asyncrl COMMAND …\n\nAsynchronous deep reinforcement learning.\n\n"
        f"{rows}\n\n"
        "  asyncrl train a3c ALE/Pong-v5          train on Atari Pong from pixels\n"
        "  asyncrl play pretrained/pong-ppo       watch a pretrained agent\n"
        "  asyncrl COMMAND --help                 show the options of a command\n"
        "  asyncrl --version"
    )
