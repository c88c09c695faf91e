"""Our tasks in Gymnasium's vector environments, and chunk queues that notice its autoreset."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest

import envs
from rtc.runtime.controller import ChunkController

TASK = "rtc/ReachPastPost-v0"
HORIZON = 8


def make_vec(task: str, mode: str) -> Any:  # Any: Gymnasium's types know one seed, not one an env
    return gymnasium.make_vec(f"{envs.__name__}:{task}", num_envs=2, vectorization_mode=mode)


@pytest.mark.parametrize("task", envs.TASKS)
def test_every_task_runs_in_a_vector_as_it_does_alone(task: str) -> None:
    vector, alone = make_vec(task, "sync"), gymnasium.make(f"{envs.__name__}:{task}")
    obs, _ = vector.reset(seed=[3, 8])
    first, _ = alone.reset(seed=8)
    np.testing.assert_array_equal(obs[1], first)
    actions = np.random.default_rng(0).uniform(-0.2, 0.2, (5, *vector.action_space.shape)).astype(np.float32)
    for action in actions:
        obs, reward, _, _, infos = vector.step(action)
        other, other_reward, _, _, info = alone.step(action[1])
        np.testing.assert_array_equal(obs[1], other)
        assert reward[1] == other_reward
        np.testing.assert_array_equal(infos["position"][1], info["position"])
    vector.close()
    alone.close()


def test_worker_processes_give_what_one_process_gives() -> None:
    played = []
    for mode in ("sync", "async"):
        vector = make_vec(TASK, mode)
        seen = [vector.reset(seed=[0, 1])[0]]
        seen += [vector.step(np.full((2, 3), 0.1 * tick, np.float32))[0].copy() for tick in range(8)]
        vector.close()
        played.append(np.stack(seen))
    np.testing.assert_array_equal(*played)


def chunk_for(obs: np.ndarray) -> np.ndarray:
    """A chunk that depends on what was seen: towards the goal, through the post, so that episodes end."""
    rows = np.linspace(0.6, 1.4, HORIZON, dtype=np.float32)[:, None]
    return np.clip(rows * 6.0 * obs[6:9], -1.0, 1.0).astype(np.float32)


def step_queue(queue: ChunkController, obs: np.ndarray) -> np.ndarray:
    """The next action; the next chunk, without delay, after every four."""
    if queue.should_infer(4):
        queue.request(0)
        queue.deliver(chunk_for(obs))
    return queue.next_action()


def episodes_alone(seed: int, count: int) -> list[np.ndarray]:
    """The actions of `count` episodes, one after the other in one env, each with its own queue."""
    env, episodes = gymnasium.make(f"{envs.__name__}:{TASK}").unwrapped, []
    for number in range(count):
        obs, _ = env.reset(seed=seed if number == 0 else None)
        queue, actions, over = ChunkController(chunk_for(obs)), [], False
        while not over:
            actions.append(step_queue(queue, obs))
            obs, _, terminated, truncated, _ = env.step(actions[-1])
            over = terminated or truncated
        episodes.append(np.stack(actions))
    return episodes


def test_a_chunk_queue_that_is_made_anew_at_the_autoreset_plays_whole_episodes() -> None:
    # The vector resets one step late: the step after an end ignores its action, gives no reward and shows the
    # new episode. A queue that went on would play the rest of a chunk of the old one.
    seeds, vector = [3, 5], make_vec(TASK, "sync")
    obs, _ = vector.reset(seed=seeds)
    queues = [ChunkController(chunk_for(one)) for one in obs]
    played: list[list[list[np.ndarray]]] = [[[]], [[]]]
    ended = np.zeros(2, bool)
    while min(map(len, played)) < 4:
        actions = np.stack([step_queue(queue, one) for queue, one in zip(queues, obs, strict=True)])
        obs, rewards, terminated, truncated, _ = vector.step(actions)
        for index in range(2):
            if ended[index]:
                assert rewards[index] == 0.0
                queues[index] = ChunkController(chunk_for(obs[index]))
                played[index].append([])
            else:
                played[index][-1].append(actions[index])
        ended = terminated | truncated
    vector.close()
    for seed, episodes in zip(seeds, played, strict=True):
        expected = episodes_alone(seed, 3)
        assert len({len(episode) for episode in expected}) > 1
        for episode, actions in zip(episodes[:3], expected, strict=True):
            np.testing.assert_array_equal(np.stack(episode), actions)
