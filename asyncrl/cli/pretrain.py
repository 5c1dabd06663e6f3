"""asyncrl pretrain ALGO ENV --data DATASET"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from asyncrl.agents.evaluation import cut_off_message
from asyncrl.agents.evaluator import evaluate_again, explain_faults
from asyncrl.agents.imitation import CloningOptions, Epoch
from asyncrl.algorithms import algorithm_name_of
from asyncrl.api import configure, evaluate, tailor
from asyncrl.cli.help import print_help
from asyncrl.cli.options import HELP, options_of, read_values, relative, with_values
from asyncrl.cli.train_options import envpool_setting, reject_other_families, train_options
from asyncrl.cli.words import algorithm_and_env
from asyncrl.common.counting import counted
from asyncrl.common.quoting import quoted
from asyncrl.common.validation import check_numbers
from asyncrl.errors import UsageError
from asyncrl.launch import imitate
from asyncrl.runs.config.option_checks import IMITATION_SETTINGS

_ABOUT = (
    "Train a policy to imitate recorded episodes (behavioural cloning). "
    "`asyncrl train ALGO ENV --init-from RUN` continues with reinforcement learning."
)
BASIC = {
    "Imitation": ("data", "imitation_epochs", "imitation_batch", "imitation_rate", "validation", "patience"),
    "Network": ("network", "hidden"),
    "Run": ("seed", "eval_episodes", "device"),
    "Output": ("run_dir", "quiet"),
}
"""Options of the short help, by section."""


@dataclass(frozen=True)
class Imitation:
    """Options of `asyncrl pretrain` that are not settings of the run."""

    data: str = ""
    """Minari dataset to imitate (asyncrl record)."""
    cloning: CloningOptions = field(default_factory=CloningOptions)
    run_dir: Path | None = None
    """Folder of the run. Default: runs/ALGO-ENV-TIME."""
    quiet: bool = False
    """Print only the result."""


def run(arguments: Sequence[str]) -> int:
    words = [word for word in arguments[:2] if not word.startswith("-")]
    algorithm, env = algorithm_and_env(words, "pretrain")
    base = configure(env or "", algorithm, **envpool_setting(arguments))
    if set(HELP) & set(arguments):
        usage = f"asyncrl pretrain {algorithm or 'ALGO'} {env or 'ENV'} --data DATASET [options]"
        own = options_of(Imitation, "output")
        options = [*own, *(option for option in train_options(base) if option.name in IMITATION_SETTINGS)]
        print_help([usage], _ABOUT, options, BASIC, show_all="--help-all" in arguments)
        return 0
    if len(words) < 2:
        raise UsageError("algorithm or environment is missing: asyncrl pretrain ALGO ENV --data DATASET")
    reject_other_families(arguments, base)
    values = read_values([*options_of(base), *options_of(Imitation)], arguments[2:])
    check_numbers(with_values(base, values))
    imitation = with_values(Imitation(), values)
    own_names = {option.name for option in options_of(Imitation)}
    settings = {name: value for name, value in values.items() if name not in own_names}
    config = tailor(base.env, type(base.algorithm), **settings)
    if not imitation.data:
        raise UsageError("the dataset is missing: --data DATASET (asyncrl record writes one)")

    def say(epoch: Epoch) -> None:
        if not imitation.quiet:
            losses = f"loss {epoch.loss:.4f}   validation loss {epoch.validation_loss:.4f}"
            agreement = "" if epoch.agreement is None else f"   agreement {epoch.agreement:.1%}"
            print(f"epoch {epoch.number:>4}   {losses}{agreement}", flush=True)

    trained, best = imitate(config, imitation.data, imitation.cloning, imitation.run_dir, say, asked=settings)
    fit = f"loss {best.validation_loss:.4f}" if best.agreement is None else f"agreement {best.agreement:.1%}"
    print(f"best epoch {best.number}: {fit} on the validation episodes")
    print(f"run folder: {relative(trained.path)}", flush=True)
    if config.eval_episodes and not trained.interrupted:
        with explain_faults("the evaluation of the imitation", evaluate_again(trained.path)):
            score = evaluate(trained, config.eval_episodes, config.seed, trust=True)
        print(f"mean return {score.mean:.2f} over {counted(len(score.returns), 'episode')}")
        if score.cut_off:
            print(cut_off_message(score.cut_off, len(score.returns), max(score.lengths), "--eval-episode-steps"))
    if trained.interrupted:
        print("stopped early: more epochs may fit better")
    name = algorithm_name_of(base.algorithm)
    network = f" --network {quoted(settings['network'])}" if "network" in settings else ""
    further = f"{quoted(name)} {quoted(base.env)}{network} --init-from {quoted(relative(trained.path))}"
    print(f"train it further: asyncrl train {further}")
    return 130 if trained.interruption == "SIGINT" else 0
