"""The page, from what the summary of a sweep says."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Collection, Sequence
from pathlib import Path

import jinja2
from markupsafe import Markup

from rtc.report.html.chart import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH
from rtc.report.html.delays import in_order, is_constant, named
from rtc.report.html.failures import REASONS
from rtc.report.html.films import LIMIT, Film, find_films, of_task
from rtc.report.html.looks import looks
from rtc.report.html.tab import make_tab
from rtc.report.html.verdict import make_verdict
from rtc.report.html.words import interval, number, percent
from rtc.report.merge import read_merged
from rtc.report.statistics import Estimate
from rtc.report.sweep_summary import Cell, Summary
from rtc.serialise import whole_file

TEMPLATES = Path(__file__).with_name("templates")
REPORT = "report.html"


def write_report(*folders: Path, out: Path | None = None, rollout_options: Collection[str] = ()) -> Path:
    """Write one page of the sweeps in `folders`, whole or not at all, and return its path.

    out: the page; by default report.html in the first folder. rollout_options: what `rtc rollout` takes, for
    the settings to copy. Raises InvalidArgument.
    """
    out = folders[0] / REPORT if out is None else out
    page = render(read_merged(folders), find_films(folders, out.parent), rollout_options)
    with whole_file(out) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return out


def render(summary: Summary, films: Sequence[Film] = (), rollout_options: Collection[str] = ()) -> str:
    """The page as text."""
    cells, tasks = summary["cells"], summary["tasks"]
    strategies = list(dict.fromkeys(cell["strategy"] for cell in cells))
    present = [task for task in tasks if any(cell["task"] == task for cell in cells)]
    shown = {task: of_task(films, task, present) for task in present}
    script = _read("page.js")
    return (
        _environment()
        .get_template("page.html")
        .render(
            verdict=make_verdict(summary, rollout_options),
            tabs=[
                make_tab(task, tasks[task], [cell for cell in cells if cell["task"] == task])
                for task in present
            ],
            looks=looks(strategies),
            delays=in_order(cell["delay"] for cell in cells),
            films=shown,
            loose_films=[film for film in films if not any(film in some for some in shown.values())],
            provenance=provenance(summary),
            left_out=left_out(summary),
            warnings=summary.get("warnings", []),
            settings=json.dumps(summary["settings"], indent=1),
            style=_read("page.css"),
            script=script,
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        )
    )


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {
        "named": named,
        "short": lambda delay: f"d = {delay}" if is_constant(delay) else delay,
        "percent": percent,
        "breakable": breakable,
        "numbers": _numbers,
    }
    environment.globals |= {
        **{"width": WIDTH, "height": HEIGHT, "left": LEFT, "right": RIGHT, "top": TOP, "bottom": BOTTOM},
        **{"most_reasons": REASONS, "film_limit": LIMIT},
    }
    return environment


def _read(name: str) -> Markup:
    """One of our own files, which goes into the page as it is."""
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))


def breakable(label: str) -> Markup:
    """A strategy's label, which may be broken where an option or its value begins."""
    return Markup("<wbr>").join(re.split(r"(?<=[:=])", label))


def provenance(summary: Summary) -> list[tuple[str, str]]:
    """What made the numbers, as (what, text)."""
    machine = ", ".join(f"{name} {value}" for name, value in summary.get("machine", {}).items())
    packages = ", ".join(f"{name} {version}" for name, version in summary.get("versions", {}).items())
    seconds = summary.get("seconds")
    rows = {
        "commit": summary.get("commit"),
        "machine": machine,
        "versions": packages,
        "time": f"{seconds / 3600:.1f} hours"
        if seconds and seconds >= 3600
        else seconds and f"{seconds:.0f} s",
    }
    return [(name, str(text)) for name, text in rows.items() if text]


def left_out(summary: Summary) -> dict[str, list[str]]:
    """The cells that were not run, by the reason."""
    found: dict[str, list[str]] = {}
    for entry in summary.get("left_out", []):
        cell = {name: text for name, text in entry.items() if name != "reason"}
        found.setdefault(entry["reason"], []).append(
            ", ".join(f"{name} {text}" for name, text in cell.items())
        )
    return found


def _numbers(cell: Cell) -> list[str]:
    """A row of the table of all numbers, after the strategy: see `numbers` in templates/macros.html."""
    rate = Estimate(**cell["success"])
    return [
        cell["delay"],
        f"{cell['mean_delay']:.3g}",
        str(cell["execution_horizon"]),
        percent(rate.value),
        interval(rate),
        f"{cell['successes']}/{cell['episodes']}",
        *(number(cell[name]) for name in ("time_to_success", "boundary_jump", "prefix_error", "rms_jerk")),
        f"{cell['starved_ticks']:.1f}",
        f"{cell['network_calls']:.0f}",
        f"{cell['vjps']:.0f}",
        ", ".join(f"{count} {reason}" for reason, count in cell["failures"].items()) or "none",
    ]
