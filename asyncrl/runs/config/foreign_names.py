"""What settings of other libraries are called here (docs/migration.md)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from asyncrl.algorithms import ALGORITHMS
from asyncrl.common.validation import flag
from asyncrl.errors import suggestions
from asyncrl.runs.config.setting_paths import setting_paths

__all__ = ["explain_foreign", "explain_place", "explain_unknown", "named_by_place"]

_OTHERS = {
    "action_mask": "masking use_masking",
    "actors": "num_actors num_cpus num_cpu num_env_runners num_rollout_workers num_workers n_workers workers",
    "atoms": "num_atoms n_atoms",
    "batch_size": "minibatch_size train_batch_size",
    "callbacks": "callback",
    "capacity": "buffer_size replay_buffer_size replay_capacity replay_size memory_size",
    "checkpoint_every": "checkpoint_freq checkpoint_frequency checkpoint_interval save_freq save_every save_interval",
    "clip_range": "clip clip_coef clip_eps clip_epsilon clip_param clip_ratio eps_clip",
    "critics": "n_critics num_critics",
    "device": "gpu gpus cuda use_cuda use_gpu num_gpus",
    "discount": "gamma discount_factor",
    "double": "ddqn double_dqn double_q",
    "dueling": "dueling_dqn",
    "entropy_cost": "ent_coef ent_coeff entropy_coef entropy_coeff entropy_coefficient entropy_weight entropy_beta",
    "envs_per_actor": "n_envs nenvs num_envs num_env num_envs_per_env_runner num_envs_per_worker",
    "epochs": "k_epochs n_epochs nepochs num_epochs num_sgd_iter noptepochs ppo_epochs update_epochs",
    "epsilon_start": "eps_start exploration_initial_eps start_e initial_epsilon epsilon",
    "epsilon_steps": "eps_decay epsilon_timesteps exploration_fraction",
    "eval_episodes": "evaluation_duration n_eval_episodes num_eval_episodes",
    "eval_every": "eval_freq eval_frequency eval_interval evaluation_interval",
    "final_epsilons": "end_e eps_end epsilon_end epsilon_final epsilon_min exploration_final_eps final_epsilon",
    "gae_lambda": "gae lam lambda lambda_",
    "hidden": "fcnet_hiddens hidden_dim hidden_dims hidden_layers hidden_size hidden_sizes hidden_units layers net_arch",
    "importance_exponent": "per_beta prioritized_replay_beta",
    "learn_temperature": "autotune ent_coef",
    "learning_rate": "lr actor_lr critic_lr pi_lr policy_lr q_lr vf_lr step_size alpha",
    "learning_rate_schedule": "anneal_lr lr_schedule lr_scheduler",
    "learning_starts": "start_steps warmup warmup_steps num_steps_sampled_before_learning_starts",
    "log_every": "log_freq log_interval log_frequency",
    "max_gradient_norm": "clip_grad clip_grad_norm grad_clip gradient_clip max_grad_norm",
    "max_kl": "kl_target",
    "minibatches": "batch_size minibatch_size n_minibatches nminibatches num_minibatches sgd_minibatch_size",
    "n_step": "n_steps num_steps nstep",
    "network": "policy policy_type",
    "noisy": "noisy_net noisy_nets",
    "normalize_advantage": "norm_adv normalize_advantages",
    "optimizer_epsilon": "adam_eps adam_epsilon eps",
    "policy_delay": "policy_frequency",
    "prioritized": "per prioritized_replay use_per",
    "priority_exponent": "per_alpha prioritized_replay_alpha",
    "progress": "progress_bar verbose",
    "publish_every": "broadcast_interval",
    "queue_size": "learner_queue_size",
    "recurrent": "lstm use_lstm use_rnn rnn",
    "replay_ratio": "gradient_steps train_freq train_frequency training_intensity utd utd_ratio",
    "rho_clip": "vtrace_clip_rho_threshold",
    "rollouts_per_update": "batch_size train_batch_size",
    "run_dir": "exp_name log_dir logdir out out_dir output output_dir run_name save_dir save_path",
    "seed": "random_seed",
    "steps": "frames max_timesteps n_timesteps num_timesteps timesteps total_frames total_steps total_timesteps",
    "t_max": "n_steps nsteps num_steps rollout_fragment_length rollout_length rollout_steps unroll_length",
    "target_every": "target_network_frequency target_network_update_freq target_update target_update_interval",
    "target_return": "reward_threshold stop_reward",
    "tau": "polyak",
    "temperature": "alpha ent_coef",
    "track": "use_wandb wandb wandb_project wandb_project_name",
    "value_clip_range": "clip_range_vf clip_vloss vf_clip_param",
    "value_cost": "critic_coef value_coef value_coeff value_loss_coef value_loss_coeff vf_coef vf_loss_coeff",
    "video_every": "capture_video record_video",
}
"""What other libraries call a setting of this one; some of them have one name for several."""

_NAMES: dict[str, list[str]] = {}
for _name, _words in _OTHERS.items():
    for _word in _words.split():
        _NAMES.setdefault(_word, []).append(_name)

_ARGUMENTS = ("callbacks", "progress", "run_dir")
"""Arguments of `asyncrl.train` beside the settings."""

_ALWAYS = {
    **dict.fromkeys(("tensorboard", "tensorboard_log"), "every run writes TensorBoard events, to RUN/tensorboard"),
    **dict.fromkeys(("cuda_deterministic", "torch_deterministic"), "every run is deterministic"),
    "save_model": "every run saves its agent",
}
"""What other libraries have a setting for, and every run does."""

_BY_PLACE = {
    **dict.fromkeys(("algo", "algorithm", "algorithm_name"), "algorithm"),
    **dict.fromkeys(("env", "env_id", "env_name", "environment"), "environment"),
}


def explain_unknown(word: str, known: Iterable[str]) -> str:
    """Return what to write for an unknown setting or `--option`: its name here, its algorithms, or similar names.

    "" if nothing is found. `known` are the settings, or the options, that there are.
    """
    names = list(map(_setting, known))
    return explain_foreign(word, names) or suggestions(_setting(word), names, _writer(word))


def explain_foreign(word: str, known: Iterable[str]) -> str:
    """Return what an unknown setting or `--option` of another library, or of another algorithm, is here; "" for others."""
    name, names, write = _setting(word), list(map(_setting, known)), _writer(word)
    others = _NAMES.get(name.casefold(), [])
    if here := [other for other in others if other in names]:
        return f"; use {' or '.join(map(write, here))}"
    if "learning_rate" not in names:  # a command that does not train
        return ""
    if place := explain_place(word):
        return place
    if always := _ALWAYS.get(name):
        return f"; {always}"
    for other in (name, *others):
        if owners := _owners(other):
            subject, kind = "it" if other == name else write(other), "an option" if write is flag else "a setting"
            return f"; {subject} is {kind} of {', '.join(owners)}"
    if write is str and (arguments := [other for other in others if other in _ARGUMENTS]):
        return f"; {arguments[0]} is an argument of train"
    return ""


def named_by_place(word: str) -> str:
    """Return "algorithm" or "environment" if other libraries have a setting or `--option` `word` that names it, else ""."""
    return _BY_PLACE.get(_setting(word), "")


def explain_place(word: str) -> str:
    """Return where the algorithm or environment is named that other libraries name in a setting or `--option` `word`.

    "" for other words.
    """
    what, place = named_by_place(word), "asyncrl train ALGO ENV" if _writer(word) is flag else "train(ENV, ALGO)"
    return what and f"; the {what} is named by its place: {place}"


def _writer(word: str) -> Callable[[str], str]:
    """The function that writes names in the form of `word`."""
    return flag if word.startswith("--") else str


def _setting(word: str) -> str:
    return word.removeprefix("--").replace("-", "_")


def _owners(name: str) -> list[str]:
    """The algorithms that have a hyperparameter of this name."""
    return [owner for owner, cls in ALGORITHMS.items() if name in {path[-1] for path in setting_paths(cls)}]
