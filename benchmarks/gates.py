"""The gates of every task, each with its number, and the speed of its simulation, for docs/tasks.md.

    python -m benchmarks.gates [--task Catch ...] [--episodes 512] [--only-report]

A task is measured as a whole and kept in benchmarks/results/gates/NAME.json; the tables are made from these.
"""

# pyright: reportAttributeAccessIssue=false
# MuJoCo's names come from compiled modules that tell a type checker nothing.

from __future__ import annotations

from functools import partial
from time import perf_counter
from typing import Any

import click
import mujoco
import numpy as np

import envs
from benchmarks import gate_tables
from benchmarks.gate_tables import LATENESS
from benchmarks.study import RESULTS, run, setting
from envs.arm import CONTROL_HZ, PHYSICS_HZ
from envs.demos import Recipe, conditional_variance
from policies.checkpoint import shipped_checkpoint
from rtc.cli.build import Builder
from rtc.cli.demos_source import expert_env
from rtc.cli.provenance import available_cores, commit, machine
from rtc.process_pool import in_workers
from rtc.report.statistics import success_rate
from rtc.runtime.latency import ConstantDelay
from rtc.serialise import read_json, write_json
from rtc.sweep import Cell, Shard, run_shard

FOLDER = RESULTS / "gates"
SPREAD_SEEDS = range(2_000_000, 2_000_012)  # apart from training and evaluation


def expert_outcomes(task: str, lateness: int, seeds: range) -> tuple[list[bool], list[str]]:
    """Whether the expert succeeds when its actions are executed `lateness` ticks late; the modes it chose.

    Until its first action is due the robot starves, as the task says.
    """
    env = expert_env(task)
    outcomes, modes = [], []
    for seed in seeds:
        env.reset(seed=seed)
        expert = env.make_expert(np.random.default_rng([seed, 7]))
        modes.append(expert.mode)
        rest = expert.act(env) if env.drive.starvation == "hold" else np.zeros(env.drive.size)
        waiting, over, info = [rest] * lateness, False, {}
        while not over:
            waiting.append(expert.act(env))
            _, _, terminated, truncated, info = env.step(waiting.pop(0))
            over = terminated or truncated
        outcomes.append(bool(info["is_success"]))
    return outcomes, modes


def simulation_speed(task: str, ticks: int = 1500) -> dict[str, float]:
    """Control steps a second of one core, bare mj_step and the whole env step, in turns; medians of 5.

    Both go on without an action from where the expert is after a quarter of a second, so that what is usually
    in contact is.
    """
    env = expert_env(task)
    model, data = env.model, mujoco.MjData(env.model)
    raw, whole = [], []
    for seed in range(5):
        env.reset(seed=seed)
        expert = env.make_expert(np.random.default_rng(seed))
        for _ in range(CONTROL_HZ // 4):
            env.step(expert.act(env))
        action = np.zeros(env.drive.size)
        env.step(action)
        mujoco.mj_copyData(data, model, env.data)  # with what the actuators are told
        start = perf_counter()
        for _ in range(ticks):
            env.step(action)
        whole.append(ticks / (perf_counter() - start))
        start = perf_counter()
        for _ in range(ticks):
            mujoco.mj_step(model, data, PHYSICS_HZ // CONTROL_HZ)
        raw.append(ticks / (perf_counter() - start))
    ratio = float(np.median(np.divide(whole, raw)))
    return {"mj_step": float(np.median(raw)), "env_step": float(np.median(whole)), "ratio": ratio}


def batched_speed(task: str) -> dict[str, float]:
    """Control steps a second of whole rollouts, policy and all: one worker alone, and one on every core.

    64 episodes of naive execution a worker, in lockstep, without the start of the processes.
    """
    builder, cores = Builder.check(task, None), available_cores()
    cell = Cell("speed", builder.env(), builder.strategy("naive"), ConstantDelay(0), 4, builder.starvation)
    jobs = [partial(rollout_speed, Shard(cell, tuple(range(64)))) for _ in range(cores)]
    alone, together = (sum(speed for _, speed in in_workers(some, len(some))) for some in (jobs[:1], jobs))
    return {"cores": cores, "one_worker": alone, "all_cores": together, "scaling": together / alone}


def rollout_speed(shard: Shard) -> float:
    """Control steps a second of this worker."""
    start = perf_counter()
    steps = run_shard(shard).timing["control_steps"]
    return steps / (perf_counter() - start)


def spread(task: str, builder: Builder) -> list[float]:
    """Variance of chunks given the state, for each number of an action, in units of the policy's variance.

    With the recipe that the policy's demonstrations were recorded by.
    """
    recipe = Recipe(**read_json(builder.folder / "recipe.json")["data"]["recipe"])
    variance = conditional_variance(partial(expert_env, task), list(SPREAD_SEEDS), recipe)
    return (variance / np.square(builder.policy.action_std.numpy())).tolist()


def measure_expert(task: str, episodes: int) -> dict[str, Any]:
    """Success against lateness, and which modes the expert chose."""
    jobs = [partial(expert_outcomes, task, lateness, range(episodes)) for lateness in LATENESS]
    found = dict(in_workers(jobs, available_cores()))
    modes = found[0][1]
    return {
        "late": [success_rate(sum(found[index][0]), episodes)._asdict() for index in range(len(LATENESS))],
        "modes": {mode: modes.count(mode) for mode in sorted(set(modes))},
    }


def measure(name: str, episodes: int, code: str | None) -> dict[str, Any]:
    """Everything about one task and its position twin; `code` is the commit that measures."""
    document: dict[str, Any] = {"episodes": episodes, "commit": code, "machine": machine()}
    for key, task in (("native", f"{name}-v0"), ("twin", f"{name}Position-v0")):
        builder = Builder.check(task, None)
        cells = [
            setting(builder, "naive", 0, "1"),
            setting(builder, "ensemble", 0, "1"),
            setting(builder, "naive", 0, "4"),
            setting(builder, "naive", 4, "4"),
            setting(builder, "synchronous", 0, "4"),
            setting(builder, "synchronous", 4, "4"),
        ]
        if key == "native":
            cells.append(setting(builder, "oracle", 4, "4"))
        if shipped_checkpoint(task, prefix=True).is_dir():
            cells.append(setting(builder, "conditioned", 4, "4"))
        document[key] = {
            "speed": simulation_speed(task),
            "batched": batched_speed(task),
            "spread": spread(task, builder),
            "expert": measure_expert(task, episodes),
            "cells": run(cells, builder, name=f"gates_{task}", seeds=range(episodes))["cells"],
        }
    return document


def with_speed(name: str) -> dict[str, Any]:
    """What is known of a task, with its speed measured again."""
    document = read_json(FOLDER / f"{name}.json")
    for key, task in (("native", f"{name}-v0"), ("twin", f"{name}Position-v0")):
        document[key] |= {"speed": simulation_speed(task), "batched": batched_speed(task)}
    return document


@click.command()
@click.option("--task", "names", multiple=True, type=click.Choice(list(envs.CLASSES)), help="[default: all]")
@click.option("--episodes", type=click.IntRange(1), default=512, show_default=True, help="Episodes a cell.")
@click.option(
    "--only-speed", is_flag=True, help="Measure the speed anew on a quiet machine; the rest stays as it is."
)
@click.option(
    "--only-report", is_flag=True, help="Write the tables from the committed JSON, simulate nothing."
)
def main(names: tuple[str, ...], episodes: int, only_speed: bool, only_report: bool) -> None:
    """Measure the gates and write their tables."""
    code = commit()  # before the first result changes the tree
    for name in () if only_report else names or envs.CLASSES:
        document = with_speed(name) if only_speed else measure(name, episodes, code)
        FOLDER.mkdir(exist_ok=True)
        write_json(FOLDER / f"{name}.json", document)
        gate_tables.report(FOLDER)
    gate_tables.report(FOLDER)


if __name__ == "__main__":
    main()
