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
    """Make the environment; Atari frames are skipped, pooled, resized, made gray and stacked as in training."""
    if contract["contract"]["family"] != "atari":
        return gymnasium.make(contract["environment"])
    import ale_py

    gymnasium.register_envs(ale_py)
    before = contract["preprocessing"]["before"]
    env = gymnasium.make(contract["environment"], frameskip=1, repeat_action_probability=before["sticky"])
    env = gymnasium.wrappers.AtariPreprocessing(env, before["noop_max"], before["frame_skip"], before["screen_size"])
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
        given = {"observation": np.asarray(observation, contract["inputs"][0]["dtype"])[None], **memory}
        found = dict(zip([output["name"] for output in contract["outputs"]], policy.run(None, given), strict=True))
        memory = {"state": found["next_state"]} if memory else {}
        observation, reward, terminated, truncated, _ = env.step(found["action"][0])
        score, over = score + float(reward), terminated or truncated
    return score


if __name__ == "__main__":
    print(play(sys.argv[1]))
