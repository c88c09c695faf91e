"""rtc beside deepinv and azula: the same denoiser, operator, measurement, levels, seeds and network calls.

    python -m benchmarks.peers [--only known|images|costs] [--method NAME ...] [--only-report]

Needs the extra rtc[peers] in its own environment (`make peers`). Writes benchmarks/results/peers.json and the
tables of docs/peers.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import metadata
from typing import Any

import click
import torch
from rich.console import Console

from benchmarks.peer.tables import PACKAGES, Row, bars, cost_table, image_table, known_table
from benchmarks.study import DOCS, RESULTS, write_between
from rtc.cli.progress import progress
from rtc.cli.provenance import commit, machine, versions
from rtc.serialise import read_json, write_json

OUT = RESULTS / "peers.json"
PARTS = ("known", "images", "costs")
ROUNDS, TIMED_CALLS = 5, 10
BEST = ", best weight"
WEIGHTS = (0.05, 0.1, 0.2, 0.4, 0.7, 1.0, 2.0, 4.0, 8.0)


def work(chosen: Callable[[str], bool]) -> Iterator[tuple[str, Callable[[], list[Row]]]]:
    """(part, job) for the methods chosen. Memory comes first, while this process has not used autograd."""
    from benchmarks.peer import measure

    photo = measure.make("inpainting", chains=1).shortened(TIMED_CALLS)
    holders = {package: measure.methods(package, photo) for package in PACKAGES}
    shared = [
        name
        for name in holders["rtc"]
        if chosen(name) and name != "ddrm, mended" and any(name in holders[peer] for peer in PACKAGES[1:])
    ]

    def memory(method: str) -> Row:
        held = [package for package in PACKAGES if method in holders[package]]
        return {
            "method": method,
            "bytes": {package: measure.peak_memory("inpainting", package, method) for package in held},
        }

    def seconds(method: str) -> Row:
        held = [package for package in PACKAGES if method in holders[package]]
        found = measure.times(photo, method, held, ROUNDS)
        ratios = {peer: measure.ratio(found["rtc"], found[peer]) for peer in held[1:]}
        return {"method": method, "seconds": found, "ratios": ratios}

    def rows(name: str, **options: Any) -> Callable[[], list[Row]]:
        return lambda: measured_rows(measure.make(name, **options), chosen)

    for method in shared:
        yield "memory", lambda method=method: [memory(method)]
    for name in measure.KNOWN:
        yield "known", rows(name)
    for method in shared:
        yield "times", lambda method=method: [seconds(method)]
    yield "images", rows("inpainting", chains=3)
    yield "images", rows("deblurring", chains=1)


def measured_rows(problem: Any, chosen: Callable[[str], bool]) -> list[Row]:
    """Every method chosen, of every package, on a problem, rtc first; peers' samples compared with ours."""
    from benchmarks.peer import measure

    names = {package: measure.methods(package, problem) for package in PACKAGES}
    every = dict.fromkeys(name for held in names.values() for name in held if chosen(name))
    floor = measure.floor(problem) if problem.posterior else None
    found = []
    for method in every:
        ours = None
        for package in PACKAGES:
            if method not in names[package]:
                continue
            document, samples = measure.row(problem, package, method, seed=0)
            document |= {"problem": problem.name, "floor": floor}
            if ours is not None and document["finite"]:
                document["difference"] = measure.difference(ours, samples)
            ours = samples if package == "rtc" else ours
            found.append(document)
    if problem.posterior:
        found += [
            best_weight(problem, package, method, floor)
            for method in ("dps", "dps, in the score")
            for package in PACKAGES
            if method in names[package] and chosen(method)
        ]
    return found


def best_weight(problem: Any, package: str, method: str, floor: float | None) -> Row:
    """DPS with the one of WEIGHTS that makes its error least, for each package its own."""
    from benchmarks.peer import measure

    tried = []
    for weight in WEIGHTS:
        document, _ = measure.row(replace(problem, weight=weight), package, method, seed=0)
        tried.append(document | {"weight": weight})
    best = min((row for row in tried if row["finite"]), key=lambda row: row["error"])
    return best | {"method": method + BEST, "problem": problem.name, "floor": floor}


def measure_parts(only: str | None, chosen: Callable[[str], bool]) -> dict[str, Any]:
    """The document, or the part of it that is asked for, of the methods chosen."""
    torch.set_num_threads(1)
    document = {
        "commit": commit(),
        "machine": machine(),
        "versions": versions() | {name: metadata.version(name) for name in PACKAGES[1:]},
        "rounds": ROUNDS,
        "timed_calls": TIMED_CALLS,
    }
    wanted = {"memory": "costs", "times": "costs"}
    jobs = [(part, job) for part, job in work(chosen) if only in (None, wanted.get(part, part))]
    done: dict[str, list[Row]] = {}
    with progress(Console(stderr=True), "comparing", len(jobs), "jobs") as advance:
        for part, job in jobs:
            done.setdefault(part, []).extend(job())
            advance(1, 0.0)
    return document | done


def report(document: dict[str, Any]) -> None:
    """The tables of docs/peers.md, from the document alone."""
    page = DOCS / "peers.md"
    write_between(page, "bars", bars(document))
    write_between(page, "known", known_table(document["known"]))
    write_between(page, "images", image_table(document["images"]))
    write_between(page, "costs", cost_table(document["times"], document["memory"]))
    used = ", ".join(f"{name} {document['versions'][name]}" for name in ("deepinv", "azula", "torch"))
    text = f"{used}; {document['machine']['processor']}, one thread; medians of {document['rounds']} pairs."
    write_between(page, "versions", text)


def merged(before: dict[str, Any], found: dict[str, Any], methods: tuple[str, ...]) -> dict[str, Any]:
    """What was found, over what was there; rows of methods that were not measured stay where they were."""
    kept = {
        part: [row for row in before.get(part, []) if row["method"].removesuffix(BEST) not in methods]
        for part in ("known", "images", "times", "memory")
        if methods and part in found
    }
    return before | found | {part: kept[part] + found[part] for part in kept}


@click.command()
@click.option("--only", type=click.Choice(PARTS), help="Measure one part; the others stay as they are.")
@click.option("--method", "methods", multiple=True, help="Measure these; the others stay as they are.")
@click.option("--only-report", is_flag=True, help="Write the tables from the committed JSON, run nothing.")
def main(only: str | None, methods: tuple[str, ...], only_report: bool) -> None:
    """Run the three packages on the same problems and write the tables."""
    if not only_report:
        found = measure_parts(only, lambda name: not methods or name in methods)
        write_json(OUT, merged(read_json(OUT) if OUT.exists() else {}, found, methods))
    document = read_json(OUT)
    if all(part in document for part in ("known", "images", "times", "memory")):
        report(document)


if __name__ == "__main__":
    main()
