"""gymnasium: an AsyncVectorEnv, with and without shared memory, beside a SyncVectorEnv."""

from __future__ import annotations

import gymnasium
import numpy as np
import proof
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv


def make():
    return gymnasium.make("CartPole-v1")


class Home(gymnasium.Env):
    """An environment that tells whose process it lives in."""

    observation_space = gymnasium.spaces.Discrete(2)
    action_space = gymnasium.spaces.Discrete(2)
    home = property(lambda self: proof.home())

    def reset(self, **_):
        return 0, {}


def play(envs):
    steps = [envs.reset(seed=[1, 2])[0].copy()]
    for n in range(40):
        observation, reward, ended, *_ = envs.step(np.array([n % 2, (n // 2) % 2]))
        steps += [observation.copy(), reward, ended]
    envs.close()
    return steps


if __name__ == "__main__":
    expected = play(SyncVectorEnv([make, make]))
    for shared_memory in (True, False):
        envs = AsyncVectorEnv([make, make], shared_memory=shared_memory, context=proof.METHOD)
        for mine, theirs in zip(play(envs), expected, strict=True):
            assert (mine == theirs).all()
    envs = AsyncVectorEnv([Home, Home], context=proof.METHOD)
    envs.reset()
    proof.check(envs.get_attr("home"))
    envs.close()
    print("done")
