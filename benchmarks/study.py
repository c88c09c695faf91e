"""What the benchmarks share: settings in, success on the same seeds out, resumable, as one JSON document."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from rtc.cli.build import Builder, execution_horizon
from rtc.cli.provenance import available_cores, commit, machine, versions
from rtc.cli.simulate import simulate
from rtc.process_pool import in_workers
from rtc.report.statistics import Estimate, paired_difference, summarise
from rtc.run_folder import open_folder
from rtc.runtime.latency import ConstantDelay
from rtc.sweep import Cell, ShardResult, split

TASK, TWIN = "ReachPastPost-v0", "ReachPastPostPosition-v0"
RESULTS = Path(__file__).parent / "results"
DOCS = Path(__file__).parents[1] / "docs"


@dataclass(frozen=True)
class Setting:
    """One way of executing chunks at one delay; `options` go to `make_strategy`."""

    strategy: str
    delay: int
    execution_horizon: int
    options: tuple[tuple[str, Any], ...] = ()

    @property
    def label(self) -> str:
        """The strategy and its options, without delay and execution horizon."""
        return " ".join([self.strategy, *(str(value) for _, value in self.options)])

    @property
    def name(self) -> str:
        """Unique, fit for a file name."""
        options = "".join(f"-{key}={value}" for key, value in self.options)
        return f"{self.strategy}-d{self.delay}-s{self.execution_horizon}{options}"


def setting(builder: Builder, strategy: str, delay: int, rule: str, **options: Any) -> Setting:
    """A setting with the execution horizon that `rule` means here; raises InvalidArgument if illegal."""
    rows = execution_horizon(rule, builder.strategy(strategy)(), delay)
    return Setting(strategy, delay, rows, tuple(sorted(options.items())))


def run(
    settings: Sequence[Setting],
    builder: Builder,
    *,
    name: str,
    seeds: range,
    batch: int = 64,
) -> dict[str, Any]:
    """Simulate every setting on the same seeds with all cores, resuming what was begun; the document.

    A setting that is listed twice is simulated once. name: of the work folder in results/, gone in the end.
    """
    settings, code = list(dict.fromkeys(settings)), commit()  # before anything can change it
    starvation = builder.starvation
    cells = {
        item: Cell(
            item.name,
            builder.env(),
            builder.strategy(item.strategy, **dict(item.options)),
            ConstantDelay(item.delay),
            item.execution_horizon,
            starvation,
        )
        for item in settings
    }
    shards = split(cells.values(), seeds, batch)
    decisive = {
        "task": builder.task,
        "policy_sha256": builder.fingerprints((item.strategy, dict(item.options)) for item in settings),
        "seeds": [seeds[0], seeds[-1]],
        "batch": batch,
        "versions": versions(),
    }
    work = open_folder(RESULTS / f"{name}.work", decisive, force=False)
    results: dict[str, ShardResult] = {}
    done = simulate(
        shards,
        work.cells,
        pool=partial(in_workers, workers=available_cores()),
        errors=Console(stderr=True, highlight=False, soft_wrap=True),
        on_result=lambda shard, result: results.update({shard.name: result}),
    )
    document = decisive | {"commit": code, "machine": machine(), "horizon": builder.policy.horizon}
    document["timing"] = done.document()
    document["cells"] = [
        _cell_document(
            item,
            [
                record
                for shard in shards
                if shard.cell is cells[item]
                for record in results[shard.name].episodes
            ],
        )
        for item in settings
    ]
    shutil.rmtree(work.path)
    return document


def _cell_document(item: Setting, records: list[dict[str, Any]]) -> dict[str, Any]:
    summary = asdict(summarise(item.strategy, item.delay, item.execution_horizon, records))
    summary["success"] = summary["success"]._asdict()
    # one character an episode, in the order of the seeds: enough to pair any two cells
    outcomes = "".join("1" if record["success"] else "0" for record in records)
    return {"label": item.label, "options": dict(item.options), "outcomes": outcomes} | summary


def difference(first: dict[str, Any], second: dict[str, Any]) -> Estimate:
    """Success of `first` minus success of `second`, paired by seed, with its 95 % bootstrap interval."""
    return paired_difference(
        [int(mark) for mark in first["outcomes"]], [int(mark) for mark in second["outcomes"]]
    )


def percent(estimate: Estimate | dict[str, float] | Sequence[float]) -> str:
    """`87 [84, 90]`: per cent with its interval."""
    value, low, high = estimate.values() if isinstance(estimate, dict) else estimate
    value, low, high = (round(100 * number) + 0 for number in (value, low, high))  # + 0: no "-0"
    return f"{value:.0f} [{low:.0f}, {high:.0f}]"


def number(value: float | None) -> str:
    """Three decimals, or a dash for what no episode had."""
    return "-" if value is None else f"{value:.3f}"


def write_between(page: Path, name: str, text: str) -> None:
    """Replace what stands between `<!-- NAME -->` and `<!-- /NAME -->` in a page of docs/."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, _, rest = page.read_text().partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise ValueError(f"{page} has no {begin} ... {end} to write the table into")
    page.write_text(f"{before}{begin}\n{text.strip()}\n{end}{after}")
