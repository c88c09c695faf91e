"""The gates of a task, each with its number, and the speed of its simulation, for docs/tasks.md.

    python -m benchmarks.gates [--episodes 512] [--only-report]

Writes benchmarks/results/gates.json and the tables in docs/tasks.md.
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

from benchmarks.study import DOCS, RESULTS, TASK, TWIN, difference, percent, run, setting, write_between
from envs.arm import CONTROL_HZ, PHYSICS_HZ
from envs.reach_past_post import ReachPastPost
from envs.reach_past_post_expert import Expert
from rtc.cli.build import Builder, make_env
from rtc.cli.provenance import available_cores, commit, machine
from rtc.report.statistics import success_rate
from rtc.serialise import read_json, write_json
from rtc.sweep import in_workers

LATENESS = (0, 2, 4, 6)


def expert_outcomes(task: str, lateness: int, seeds: range) -> list[bool]:
    """Whether the expert succeeds when each of its actions is executed `lateness` ticks late."""
    env = make_env(task).unwrapped
    assert isinstance(env, ReachPastPost)
    outcomes = []
    for seed in seeds:
        env.reset(seed=seed)
        expert = Expert(np.random.default_rng([seed, 7]))
        rest = np.zeros(3) if env.control == "force" else env.target_action(env.position)
        waiting, over, info = [rest] * lateness, False, {}
        while not over:
            waiting.append(expert.act(env))
            _, _, terminated, truncated, info = env.step(waiting.pop(0))
            over = terminated or truncated
        outcomes.append(bool(info["is_success"]))
    return outcomes


def simulation_speed(ticks: int = 4000) -> dict[str, float]:
    """Control steps a second of one core, bare mj_step and the whole env step, in turns; medians of 5."""
    env = ReachPastPost()
    data = mujoco.MjData(env.model)
    raw, whole = [], []
    for _ in range(5):
        env.reset(seed=0)
        mujoco.mj_copyData(data, env.model, env.data)
        start = perf_counter()
        for _ in range(ticks):
            mujoco.mj_step(env.model, data, PHYSICS_HZ // CONTROL_HZ)
        raw.append(ticks / (perf_counter() - start))
        action, start = np.zeros(3), perf_counter()
        for _ in range(ticks):
            env.step(action)
        whole.append(ticks / (perf_counter() - start))
    ratio = float(np.median(np.divide(whole, raw)))
    return {"mj_step": float(np.median(raw)), "env_step": float(np.median(whole)), "ratio": ratio}


def measure(episodes: int) -> dict[str, Any]:
    """Everything, as one document."""
    seeds, code = range(episodes), commit()  # before anything can change it
    speed = simulation_speed()
    late = [(task, lateness) for task in (TASK, TWIN) for lateness in LATENESS]
    found = dict(in_workers([partial(expert_outcomes, *key, seeds) for key in late], available_cores()))
    document: dict[str, Any] = {
        "episodes": episodes,
        "commit": code,
        "machine": machine(),
        "speed": speed,
        "expert": {
            f"{task} {lateness}": success_rate(sum(found[index]), episodes)._asdict()
            for index, (task, lateness) in enumerate(late)
        },
    }
    for task in (TASK, TWIN):
        builder = Builder.check(task, None)
        cells = [
            setting(builder, "naive", 0, "1"),
            setting(builder, "naive", 4, "4"),
            setting(builder, "synchronous", 0, "4"),
            setting(builder, "synchronous", 4, "4"),
        ]
        document[task] = run(cells, builder, name=f"gates_{task}", seeds=seeds)["cells"]
    return document


def gate_table(document: dict[str, Any]) -> str:
    """Each gate of the benchmark with its number and whether it is passed."""
    once, delayed, stop, stop_delayed = document[TASK]
    twin_stop, twin_stop_delayed = document[TWIN][2:]
    drop = difference(once, delayed)
    kept, twin_kept = (
        late["success"]["value"] / max(early["success"]["value"], 1e-9)
        for early, late in ((stop, stop_delayed), (twin_stop, twin_stop_delayed))
    )
    expert = document["expert"][f"{TASK} 0"]
    rows = [
        ("expert", ">= 95 %", percent(expert), expert["value"] >= 0.95),
        ("policy at d = 0, s = 1", ">= 85 %", percent(once["success"]), once["success"]["value"] >= 0.85),
        ("naive at d = H/4, below d = 0", ">= 15 points", percent(drop), drop.value >= 0.15),
        (
            "position twin: synchronous at d = H/4 keeps",
            ">= 80 % of d = 0",
            f"{100 * twin_kept:.0f} %",
            twin_kept >= 0.8,
        ),
        ("force: synchronous at d = H/4 keeps", "< 80 % of d = 0", f"{100 * kept:.0f} %", kept < 0.8),
    ]
    lines = ["| gate | bar | measured, % | |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {bar} | {value} | {'passed' if passed else '**failed**'} |"
        for name, bar, value, passed in rows
    ]
    return "\n".join(lines)


def expert_table(document: dict[str, Any]) -> str:
    """Expert success against lateness."""
    lines = [
        "| actions late by (ticks) | " + " | ".join(map(str, LATENESS)) + " |",
        "|---|" + "---|" * len(LATENESS),
    ]
    for task in (TASK, TWIN):
        values = " | ".join(percent(document["expert"][f"{task} {late}"]) for late in LATENESS)
        lines.append(f"| {task} | {values} |")
    return "\n".join(lines)


def twin_table(document: dict[str, Any]) -> str:
    """The four cells of both control modes."""
    lines = [
        "| | naive d=0 s=1 | naive d=4 s=4 | synchronous d=0 s=4 | synchronous d=4 s=4 |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {task} | " + " | ".join(percent(cell["success"]) for cell in document[task]) + " |"
        for task in (TASK, TWIN)
    ]
    return "\n".join(lines)


def report(document: dict[str, Any]) -> None:
    """The tables of docs/tasks.md, from the document alone."""
    page, speed = DOCS / "tasks.md", document["speed"]
    write_between(page, "gates", gate_table(document))
    write_between(page, "expert", expert_table(document))
    write_between(page, "twin", twin_table(document))
    text = (
        f"{speed['env_step']:,.0f} control steps a second of one core; the bare `mj_step` calls alone make "
        f"{speed['mj_step']:,.0f}: a ratio of {speed['ratio']:.2f} "
        f"({document['machine']['processor']}, medians of 5 pairs in one process)."
    )
    write_between(page, "speed", text)


@click.command()
@click.option("--episodes", type=click.IntRange(1), default=512, show_default=True, help="Episodes a cell.")
@click.option(
    "--only-report", is_flag=True, help="Write the tables from the committed JSON, simulate nothing."
)
def main(episodes: int, only_report: bool) -> None:
    """Measure the gates and write their tables."""
    out = RESULTS / "gates.json"
    if not only_report:
        write_json(out, measure(episodes))
    report(read_json(out))


if __name__ == "__main__":
    main()
