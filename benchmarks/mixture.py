"""The Gaussian-mixture benchmark of MCGdiff: how far each method's samples are from the exact posterior.

    python -m benchmarks.mixture [--workers 1] [--quick] [--evidence] [--only-report]

Writes benchmarks/results/mixture.json and the tables of docs/mixture.md. An interrupted run goes on where it
stopped. --quick: a subset in seconds, printed and not written. --evidence: log evidences instead
(benchmarks/results/evidence.json). About 40 minutes of one core, and 6 for the evidences.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from time import process_time
from typing import Any

import click
import torch
from rich.console import Console

from benchmarks import evidence
from benchmarks.mixture_rows import MAIN, REFERENCES, REST, VARIANTS, Row, make_case, sliced_wasserstein
from benchmarks.study import DOCS, RESULTS, write_between
from rtc.cli.progress import progress
from rtc.cli.provenance import commit, machine, versions
from rtc.errors import RtcError
from rtc.process_pool import in_workers
from rtc.run_folder import open_folder
from rtc.serialise import read_json, write_json

FEW, ALL = REFERENCES | MAIN, REFERENCES | MAIN | VARIANTS | REST


@dataclass(frozen=True)
class Setting:
    """One column: the same instances, with some number of network calls, on one grid of levels."""

    dim: int
    dy: int
    calls: int
    grid: str = "geometric"

    @property
    def name(self) -> str:
        """Unique, fit for a file name."""
        return f"{self.grid}-{self.calls}-{self.dim}-{self.dy}"

    @property
    def rows(self) -> dict[str, Row]:
        """What is run: everything where it is cheap, the main rows elsewhere."""
        return ALL if (self.calls, self.grid) == (20, "geometric") and self.dim < 800 else FEW


TABLES: dict[str, list[Setting]] = {
    "mixture 20": [Setting(dim, dy, 20) for dim in (8, 80, 800) for dy in (1, 2, 4)],
    "mixture 100": [Setting(dim, dy, 100) for dim in (8, 80) for dy in (1, 2, 4)],
    "mixture index": [Setting(dim, 4, 20, "index") for dim in (8, 80, 800)],
}
"""The columns of each table of docs/mixture.md."""


def distances(setting: Setting, instance: int, samples: int) -> dict[str, dict[str, Any]]:
    """Each row's distance to the exact posterior on one instance, and its seconds of processor time.

    A row that refuses the instance has the message in place of the distance; one that diverges has neither.
    """
    case = make_case(setting.dim, setting.dy, instance, setting.calls, setting.grid, samples)
    exact = case.posterior.sample(samples, case.generator)
    found: dict[str, dict[str, Any]] = {}
    for name, row in setting.rows.items():
        case.generator.manual_seed(1000 + instance)
        start = process_time()
        try:
            drawn = row(case)
        except RtcError as error:
            found[name] = {"refused": str(error)}
            continue
        value = sliced_wasserstein(drawn, exact, case.generator)
        found[name] = {
            "distance": value if math.isfinite(value) else None,
            "seconds": process_time() - start,
        }
    return found


def measure(
    settings: Sequence[Setting], instances: int, samples: int, workers: int, name: str = "mixture"
) -> dict[str, Any]:
    """All settings on all instances, resuming what was begun; the document.

    name: of the work folder in results/, gone in the end.
    """
    code = commit()  # before anything can change it
    decisive = {"instances": instances, "samples": samples, "versions": versions()}
    work = open_folder(RESULTS / f"{name}.work", decisive, force=False)
    jobs = {
        work.cells / f"{setting.name}.{instance}.json": partial(distances, setting, instance, samples)
        for instance in range(instances)
        for setting in settings
    }
    missing = [file for file in jobs if not file.exists()]
    with progress(
        Console(stderr=True), "mixtures", len(jobs), "instances", done=len(jobs) - len(missing)
    ) as advance:
        for index, found in in_workers([jobs[file] for file in missing], workers):
            write_json(missing[index], found, indent=None)
            advance(1)
    document = decisive | {"commit": code, "machine": machine(), "settings": []}
    for setting in settings:
        files = [work.cells / f"{setting.name}.{instance}.json" for instance in range(instances)]
        document["settings"].append(asdict(setting) | {"rows": summary([read_json(file) for file in files])})
    shutil.rmtree(work.path)
    return document


def summary(found: list[dict[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Per row: the distances that are numbers, in order, how many diverged, why it refused, seconds each."""
    rows = {}
    for name in found[0]:
        cells = [instance[name] for instance in found]
        ran = [cell for cell in cells if "refused" not in cell]
        rows[name] = {
            "distances": [round(cell["distance"], 4) for cell in ran if cell["distance"] is not None],
            "diverged": sum(cell["distance"] is None for cell in ran),
            "refused": sorted({cell["refused"] for cell in cells if "refused" in cell})[:1],
            "refusals": len(cells) - len(ran),
            "seconds": sum(cell["seconds"] for cell in ran) / max(len(ran), 1),
        }
    return rows


def mean_and_margin(values: Sequence[float]) -> tuple[float, float]:
    """The mean, and 1.96 standard errors (0 for one value)."""
    given = torch.tensor(values, dtype=torch.float64)
    error = float(given.std()) / math.sqrt(len(given)) if len(given) > 1 else 0.0
    return float(given.mean()), 1.96 * error


def entry(row: dict[str, Any] | None) -> str:
    """`.27±.07`, with how many instances diverged or were refused, if any."""
    if row is None:
        return ""
    lost = [f"{row[key]} {word}" for key, word in (("diverged", "nan"), ("refusals", "refused")) if row[key]]
    note = f" ({', '.join(lost)})" if lost else ""
    if not row["distances"]:
        return note.strip()
    mean, margin = mean_and_margin(row["distances"])
    return f"{mean:.2f}±{margin:.2f}{note}" if mean < 1000.0 else f"{mean:.0e}{note}"


def table(columns: list[dict[str, Any]]) -> str:
    """Rows by name, a column a setting; the best method of a column in bold."""
    heads = [f"{column['calls']}: {column['dim']}/{column['dy']}" for column in columns]
    best = [min(methods_of(column).values(), default=math.inf) for column in columns]
    lines = ["| calls: dim/dy | " + " | ".join(heads) + " |", "|---|" + "---|" * len(columns)]
    for name in columns[0]["rows"]:
        cells = []
        for column, least in zip(columns, best, strict=True):
            text = entry(column["rows"].get(name))
            cells.append(f"**{text}**" if methods_of(column).get(name) == least else text)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def methods_of(column: dict[str, Any]) -> dict[str, float]:
    """The mean distance of each method that ran on every instance, references left out."""
    return {
        name: mean_and_margin(row["distances"])[0]
        for name, row in column["rows"].items()
        if name not in REFERENCES and row["distances"] and not row["diverged"] + row["refusals"]
    }


def column_of(document: dict[str, Any], setting: Setting) -> dict[str, Any]:
    """The column of that setting."""
    wanted = asdict(setting)
    return next(column for column in document["settings"] if wanted.items() <= column.items())


def report(document: dict[str, Any], evidences: dict[str, Any]) -> None:
    """The tables of docs/mixture.md, from the documents alone."""
    page = DOCS / "mixture.md"
    for name, settings in TABLES.items():
        write_between(page, name, table([column_of(document, setting) for setting in settings]))
    write_between(page, "evidence", evidence.table(evidences))


@click.command()
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes.")
@click.option("--quick", is_flag=True, help="A subset in seconds: printed, not written.")
@click.option("--evidence", "evidences", is_flag=True, help="Measure the log evidences, not the distances.")
@click.option("--only-report", is_flag=True, help="Write the tables from the committed JSON, run nothing.")
def main(workers: int, quick: bool, evidences: bool, only_report: bool) -> None:
    """Run the benchmark and write its tables."""
    if quick:
        settings = [Setting(8, 1, 20), Setting(8, 4, 20)]
        click.echo(table(measure(settings, 1, 200, 1, "mixture_quick")["settings"]))
        return
    out, evidence_out = RESULTS / "mixture.json", RESULTS / "evidence.json"
    if evidences:
        write_json(evidence_out, evidence.measure(workers=workers))
    elif not only_report:
        columns = [setting for settings in TABLES.values() for setting in settings]
        write_json(out, measure(columns, 20, 1000, workers))
    if out.exists() and evidence_out.exists():
        report(read_json(out), read_json(evidence_out))


if __name__ == "__main__":
    main()
