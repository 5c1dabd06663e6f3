"""Play with an exported agent: onnxruntime and Gymnasium, without torch and asyncrl.

    asyncrl export pretrained/pong-ppo --onnx policy
    python play_onnx.py policy

contract.json says what the environment must be like and what the policy's inputs and outputs mean (docs/export.md).
"""

import json
import sys
from pathlib import Path

import gymnasium
import numpy as np
import onnxruntime


def make(contract):
    """Make the environment as the contract says. Exits with a sentence where it takes more than is done here."""
    rules, before = contract["contract"], contract["preprocessing"]["before"]
    missing = [
        f"the input {given['name']}" for given in contract["inputs"] if given["name"] not in ("observation", "state")
    ]
    missing += [f"environments of {rules['family']}"] * (rules["family"] not in ("gymnasium", "atari"))
    missing += [f"import {module}" for module in rules["settings"].get("imports", ())]
    if missing:
        sys.exit(f"{contract['environment']} needs what `make` in {Path(__file__).name} does not do: {', '.join(missing)}")
    if rules["family"] == "gymnasium":
        arguments = rules["settings"].get("kwargs", {})
        return gymnasium.make(contract["environment"], max_episode_steps=rules["episode_cap"], **arguments)
    import ale_py

    gymnasium.register_envs(ale_py)
    env = gymnasium.make(
        contract["environment"],
        frameskip=1,
        repeat_action_probability=before["sticky"],
        full_action_space=rules["action_set"] == "all 18",
        max_num_frames_per_episode=before["episode_cap"] * before["frame_skip"],
    )
    noops = max(0, before["noop_max"] - 1)  # the contract's number is not reached, the wrapper's is
    size = before["screen_size"] or (160, 210)
    env = gymnasium.wrappers.AtariPreprocessing(env, noops, before["frame_skip"], size, grayscale_obs=before["gray"])
    return gymnasium.wrappers.FrameStackObservation(env, before["frame_stack"], padding_type="zero")


def play(folder, seed=1, steps=108_000):
    """Play an episode greedily, at most so many steps. Returns its return."""
    contract = json.loads((Path(folder) / "contract.json").read_text(encoding="utf-8"))
    policy = onnxruntime.InferenceSession(Path(folder) / "policy.onnx")
    sizes = {given["name"]: given["shape"] for given in contract["inputs"]}
    memory = {"state": np.zeros((1, *sizes["state"][1:]), np.float32)} if "state" in sizes else {}
    env = make(contract)
    observation, _ = env.reset(seed=seed)
    score, over = 0.0, False
    while not over and (steps := steps - 1) >= 0:
        seen = np.asarray(observation, contract["inputs"][0]["dtype"]).reshape(1, *sizes["observation"][1:])
        given = {"observation": seen, **memory}
        found = dict(zip([output["name"] for output in contract["outputs"]], policy.run(None, given), strict=True))
        memory = {"state": found["next_state"]} if memory else {}
        observation, reward, terminated, truncated, _ = env.step(found["action"][0])
        score, over = score + float(reward), terminated or truncated
    return score


if __name__ == "__main__":
    print(play(sys.argv[1]))
