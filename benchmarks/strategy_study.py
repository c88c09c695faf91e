"""The study behind docs/study.md: every way of executing chunks, screened; the best ones confirmed.

    python -m benchmarks.strategy_study [--stage screening ...] [--only-report]

A stage is one or several `rtc sweep --spec benchmarks/sweeps/NAME.toml` into out/study/NAME, which go on
where they stopped. What they found is kept in benchmarks/results/study; the tables of the page and the
reports in docs/study are made from that. About four hours on two cores.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyarrow.parquet as pq

from benchmarks import head_alone, latencies
from benchmarks import strategy_tables as tables
from benchmarks.strategy_plot import plot
from benchmarks.study import DOCS, RESULTS, write_between
from rtc.cli.sweep_output import EPISODES
from rtc.report.merge import merge
from rtc.report.statistics import mean
from rtc.report.sweep_summary import SUMMARY, Summary, read_summary
from rtc.serialise import read_json, write_json

SWEEPS = Path(__file__).parent / "sweeps"
OUT = Path("out/study")
KEPT = RESULTS / "study"
STAGES = {
    "screening": ("screening", "screening_models", "horizons"),
    "confirmation": ("confirmation",),
    "fair": ("fair_small", "fair_large"),
}
"""The sweeps of every stage."""
REPORTS = {"screening": ("screening", "screening_models"), "confirmation": ("confirmation",)}
"""The pages in docs/study, and the sweeps in each."""
JUMP_DELAY = "4"
HEAD_SEEDS = range(300_000, 300_128)
TOLD, GUIDED = "conditioned:expected=median", "realtime:schedule=zeros:jacobian=identity"
PAIRS = [
    ("realtime:schedule=zeros", "naive"),
    (GUIDED, "realtime:schedule=zeros"),
    ("realtime:schedule=exp", "realtime:schedule=zeros"),
    ("posterior", "realtime:schedule=zeros"),
    ("paint", "realtime:schedule=zeros"),
    (f"{GUIDED}:expected=median", GUIDED),
    ("conditioned", GUIDED),
    (TOLD, "conditioned"),
    ("residual", "naive"),
    (f"residual:inner={TOLD}", TOLD),
    (f"rollforward:model=learned:inner={TOLD.replace(':', ':ahead=4:')}", TOLD),
    (f"rollforward:inner={TOLD.replace(':', ':ahead=4:')}", TOLD),
    ("rollforward:model=learned", "rollforward"),
    ("rollforward:error=0.5", "rollforward"),
    ("oracle:expected=median", "oracle"),
]
"""What the page compares within the screening."""
HEADLINE = {
    "synchronous": "stop and think",
    "naive": "switch blindly",
    f"{GUIDED}:expected=median": "real-time chunking of the same policy",
    TOLD: "a policy that is told what will have run",
    "auto": "`auto`",
    "oracle:expected=median": "the oracle",
}


def rtc(*arguments: object) -> None:
    """Run a command of ours; its progress is on the screen."""
    subprocess.run([sys.executable, "-m", "rtc.cli", *map(str, arguments)], check=True)


def run(stage: str) -> None:
    """Simulate what is missing of a stage, and keep what it found."""
    if stage == "fair" and not (OUT / "small.json").exists():
        labels = tomllib.loads((SWEEPS / "fair_small.toml").read_text())["strategies"]
        document = latencies.measure([label for label in labels if label != "oracle"], "Catch-v0")
        write_json(KEPT / "latencies.json", document)
        for size in ("small", "large"):
            write_json(OUT / f"{size}.json", document[size])
    for name in STAGES[stage]:
        if not _finished(OUT / name):
            rtc("sweep", "--spec", SWEEPS / f"{name}.toml", "--out", OUT / name)
        more = {"jumps": jumps(OUT / name)} if name == "confirmation" else {}
        write_json(KEPT / f"{name}.json", read_summary(OUT / name) | more, indent=None)
    if stage == "confirmation":
        write_json(KEPT / "head_alone.json", head_alone.measure(HEAD_SEEDS))
    if stage == "screening":
        rtc("choose", *(OUT / name for name in REPORTS["screening"]))
    for page, names in REPORTS.items():
        if stage == page:
            rtc("report", *(OUT / name for name in names), "--out", DOCS / "study" / f"{page}.html")


def _finished(folder: Path) -> bool:
    return (folder / SUMMARY).exists() and bool(read_json(folder / "run.json")["finished"])


def jumps(folder: Path) -> list[dict[str, Any]]:
    """The boundary jump of each strategy over naive's, paired by seed, at JUMP_DELAY.

    The jump of an episode is the median over its chunks; the value is the ratio of the means over episodes,
    its interval the bootstrap over seeds of mean(own - value * naive's) turned into a ratio.
    """
    columns = ["task", "strategy", "delay", "seed", "boundary_jump"]
    found: dict[tuple[str, str], dict[int, float]] = {}
    for row in pq.read_table(folder / EPISODES, columns=columns).to_pylist():
        if row["delay"] == JUMP_DELAY and row["boundary_jump"] is not None:
            found.setdefault((row["task"], row["strategy"]), {})[row["seed"]] = row["boundary_jump"]
    rows = []
    for (task, strategy), own in found.items():
        naive = found.get((task, "naive"), {})
        both = sorted(own.keys() & naive.keys())
        if both and strategy != "naive":
            ours, theirs = (np.array([jump[seed] for seed in both]) for jump in (own, naive))
            rows.append({"task": task, "strategy": strategy, "ratio": list(_ratio(ours, theirs))})
    return rows


def _ratio(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float, float]:
    """Ratio of means with the interval that the bootstrap gives to their difference around it."""
    value = float(ours.mean() / theirs.mean())
    around = mean(ours - value * theirs)
    return value, value + around.low / float(theirs.mean()), value + around.high / float(theirs.mean())


def kept(name: str) -> Summary:
    """What a sweep found."""
    return read_json(KEPT / f"{name}.json")


def report() -> None:
    """Write every table of the page."""
    screened = merge({Path(name): kept(name) for name in REPORTS["screening"]})["cells"]
    confirmed = kept("confirmation")
    plot(confirmed, DOCS / "images" / "study.png")
    cells = confirmed["cells"]
    written = {
        "bars": tables.bar_lines(cells),
        "best": tables.best_table(cells),
        "confirmed": tables.standing_table(cells),
        "jumps": tables.jump_table(confirmed["jumps"]),
        "screened": tables.standing_table(screened),
        "ablations": tables.difference_table(screened, PAIRS),
        "horizons": tables.horizon_table(kept("horizons")["cells"]),
    }
    written["head"] = tables.head_table(read_json(KEPT / "head_alone.json")["success"])
    measured = read_json(KEPT / "latencies.json")
    for size in ("small", "large"):
        written[size] = tables.fair_table(kept(f"fair_{size}")["cells"], measured[size])
    for name, text in written.items():
        write_between(DOCS / "study.md", name, text)
    write_between(DOCS.parent / "README.md", "study", tables.headline(cells, HEADLINE))


@click.command()
@click.option("--stage", "stages", multiple=True, type=click.Choice(list(STAGES)), help="All by default.")
@click.option("--only-report", is_flag=True, help="Write the tables, simulate nothing.")
def main(stages: tuple[str, ...], only_report: bool) -> None:
    """Simulate what is missing and report."""
    for stage in () if only_report else stages or tuple(STAGES):
        run(stage)
    report()


if __name__ == "__main__":
    main()
