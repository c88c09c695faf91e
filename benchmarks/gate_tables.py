"""The tables of docs/tasks.md, from what `benchmarks.gates` measured and from the tasks' own cards."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import envs
from benchmarks.study import DOCS, difference, percent, write_between
from rtc.cli.tasks import card_of, description
from rtc.serialise import read_json

LATENESS = (0, 2, 4, 6, 8)


class Gate(NamedTuple):
    """A bar, what was measured, and whether it is passed."""

    name: str
    bar: str
    value: str
    passed: bool


def cell(part: dict[str, Any], strategy: str, delay: int, rows: int) -> dict[str, Any]:
    """One cell of a task's document; KeyError if it was not measured."""
    return {(item["strategy"], item["delay"], item["execution_horizon"]): item for item in part["cells"]}[
        strategy, delay, rows
    ]


def success(part: dict[str, Any], strategy: str, delay: int, rows: int) -> str:
    """Success in one cell with its interval, or a dash."""
    try:
        return percent(cell(part, strategy, delay, rows)["success"])
    except KeyError:
        return "-"


def gates(document: dict[str, Any]) -> list[Gate]:
    """What a task must show before strategies are compared on it."""
    native, twin = document["native"], document["twin"]
    fresh = cell(native, "naive", 0, 1)
    drop = difference(cell(native, "naive", 0, 4), cell(native, "naive", 4, 4))
    averaged = difference(cell(native, "ensemble", 0, 1), fresh)
    early, late = (cell(twin, "synchronous", delay, 4)["success"]["value"] for delay in (0, 4))
    kept = late / max(early, 1e-9)
    expert = native["expert"]["late"][0]
    return [
        Gate("expert", ">= 95", percent(expert), expert["value"] >= 0.95),
        Gate("policy, d = 0, s = 1", ">= 85", percent(fresh["success"]), fresh["success"]["value"] >= 0.85),
        Gate("naive, d = 4 below d = 0", ">= 15", percent(drop), drop.value >= 0.15),
        Gate("ensemble - naive, d = 0", "< 0", percent(averaged), averaged.high < 0.0),
        Gate("twin: synchronous at d = 4 keeps", ">= 80", f"{100 * kept:.0f}", kept >= 0.8),
    ]


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def gate_table(documents: dict[str, dict[str, Any]]) -> str:
    """One row a task, one column a gate; what is missed is bold."""
    found = {name: gates(document) for name, document in documents.items()}
    first = next(iter(found.values()))
    head = ["task", *(f"{gate.name} ({gate.bar})" for gate in first), "passes"]
    rows = [
        [name]
        + [gate.value if gate.passed else f"**{gate.value}**" for gate in row]
        + ["all" if all(gate.passed for gate in row) else "no"]
        for name, row in found.items()
    ]
    return table(head, rows)


def expert_table(documents: dict[str, dict[str, Any]]) -> str:
    """Expert success against lateness, and the modes it chose."""
    rows = []
    for name, document in documents.items():
        for suffix, part in (("", document["native"]), ("Position", document["twin"])):
            modes = ", ".join(
                f"{mode} {100 * count / document['episodes']:.0f}"
                for mode, count in part["expert"]["modes"].items()
            )
            rows.append([name + suffix, *(percent(value) for value in part["expert"]["late"]), modes])
    return table(["actions late by (ticks)", *map(str, LATENESS), "modes chosen, %"], rows)


def policy_table(documents: dict[str, dict[str, Any]]) -> str:
    """Success of the shipped policies in every cell that the gates need."""
    cells = [
        ("naive", 0, 1),
        ("naive", 0, 4),
        ("naive", 4, 4),
        ("synchronous", 0, 4),
        ("synchronous", 4, 4),
        ("conditioned", 4, 4),
        ("oracle", 4, 4),
    ]
    rows = [
        [name + suffix, *(success(part, *key) for key in cells)]
        for name, document in documents.items()
        for suffix, part in (("", document["native"]), ("Position", document["twin"]))
    ]
    return table(["", *(f"{name} d={delay} s={rows_}" for name, delay, rows_ in cells)], rows)


def speed_table(documents: dict[str, dict[str, Any]]) -> str:
    """Control steps a second of one core beside the bare physics; the spread of the demonstrations."""
    rows = []
    for name, document in documents.items():
        for suffix, part in (("", document["native"]), ("Position", document["twin"])):
            speed = part["speed"]
            rows.append(
                [
                    name + suffix,
                    f"{speed['env_step']:,.0f}",
                    f"{speed['mj_step']:,.0f}",
                    f"{speed['ratio']:.2f}",
                    f"{part['batched']['all_cores']:,.0f}",
                    f"{part['batched']['scaling']:.2f}",
                    ", ".join(f"{value:.2f}" for value in part["spread"]),
                ]
            )
    return table(
        [
            "",
            "env, steps/s",
            "bare mj_step",
            "ratio",
            "rollouts on all cores",
            "times one core",
            "spread, one number an action",
        ],
        rows,
    )


def cards() -> str:
    """What each task says of itself."""
    parts = []
    for name in envs.CLASSES:
        card, action = card_of(f"{name}-v0")
        rows = [[what, text.replace("|", "\\|")] for what, text in description(card, action)]
        _, twin = card_of(f"{name}Position-v0")
        rows.insert(0, ["ids", f"`rtc/{name}-v0`, `rtc/{name}Position-v0`"])
        where = next(index for index, row in enumerate(rows) if row[0] == "without an action")
        rows.insert(where, ["the same in the twin", dict(description(card, twin))[rows[where - 1][0]]])
        parts.append(f"### {card.title}\n\n![{card.title}](images/{name}.gif)\n\n{table(['', ''], rows)}")
    return "\n\n".join(parts)


def report(folder: Path) -> None:
    """Write every table that can be made."""
    page = DOCS / "tasks.md"
    write_between(page, "cards", cards())
    documents = {
        name: dict(read_json(folder / f"{name}.json"))
        for name in envs.CLASSES
        if (folder / f"{name}.json").exists()
    }
    if documents:
        write_between(page, "gates", gate_table(documents))
        write_between(page, "expert", expert_table(documents))
        write_between(page, "policies", policy_table(documents))
        write_between(page, "speed", speed_table(documents))
