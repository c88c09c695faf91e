"""The page, from what the summary of a sweep says."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from rtc.report.html.chart import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH
from rtc.report.html.delays import in_order, is_constant, named
from rtc.report.html.films import LIMIT, Film, find_films, of_task
from rtc.report.html.looks import looks
from rtc.report.html.tab import REASONS, interval, make_tab, percent
from rtc.report.html.verdict import OVERALL_HEADS, OVERALL_NOTE, TIE_NOTE, make_verdict
from rtc.report.sweep_summary import Cell, Summary, read_summary
from rtc.serialise import whole_file

TEMPLATES = Path(__file__).with_name("templates")
REPORT = "report.html"
NUMBERS = (
    *("strategy", "delay", "mean d", "s", "success", "95 %", "episodes", "time to success, s", "jump"),
    *("prefix error", "jerk, m/s³", "starved ticks", "network calls", "VJPs", "failures"),
)
NUMBER_NOTE = (
    "s: actions run from a chunk before the next takes over. Jump: step in the action where chunks join; prefix "
    "error: how far the new chunk is from what was executed while it was computed; both in action units, medians. "
    "Starved ticks, network calls and vector-Jacobian products: a mean episode."
)


def write_report(folder: Path) -> Path:
    """Write `folder`/report.html, whole or not at all, and return its path; raises InvalidArgument."""
    page = render(read_summary(folder), find_films(folder))
    with whole_file(folder / REPORT) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return folder / REPORT


def render(summary: Summary, films: Sequence[Film] = ()) -> str:
    """The page as text."""
    cells, tasks = summary["cells"], summary["tasks"]
    strategies = list(dict.fromkeys(cell["strategy"] for cell in cells))
    present = [task for task in tasks if any(cell["task"] == task for cell in cells)]
    shown = {task: of_task(films, task, present) for task in present}
    script = _read("page.js")
    return _environment().get_template("page.html").render(
        verdict=make_verdict(summary),
        tabs=[
            make_tab(task, tasks[task], [cell for cell in cells if cell["task"] == task], strategies)
            for task in present
        ],
        looks=looks(strategies),
        delays=in_order(cell["delay"] for cell in cells),
        films=shown,
        loose_films=[film for film in films if not any(film in some for some in shown.values())],
        provenance=provenance(summary),
        left_out=[left_out(entry) for entry in summary.get("left_out", [])],
        settings=json.dumps(summary["settings"], indent=1),
        style=_read("page.css"),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
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
        "numbers": _numbers,
    }
    environment.globals |= {
        **{"width": WIDTH, "height": HEIGHT, "left": LEFT, "right": RIGHT, "top": TOP, "bottom": BOTTOM},
        **{"most_reasons": REASONS, "film_limit": LIMIT, "number_heads": NUMBERS, "number_note": NUMBER_NOTE},
        **{"overall_heads": OVERALL_HEADS, "notes": {"tie": TIE_NOTE, "overall": OVERALL_NOTE}},
    }
    return environment


def _read(name: str) -> Markup:
    """One of our own files, which goes into the page as it is."""
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))


def provenance(summary: Summary) -> list[tuple[str, str]]:
    """What made the numbers, as (what, text)."""
    machine = ", ".join(f"{name} {value}" for name, value in summary.get("machine", {}).items())
    packages = ", ".join(f"{name} {version}" for name, version in summary.get("versions", {}).items())
    seconds = summary.get("seconds")
    rows = {
        "commit": summary.get("commit"),
        "machine": machine,
        "versions": packages,
        "time": f"{seconds / 3600:.1f} hours" if seconds and seconds >= 3600 else seconds and f"{seconds:.0f} s",
    }
    return [(name, str(text)) for name, text in rows.items() if text]


def left_out(entry: Any) -> str:
    """A cell that was not run, in words."""
    if isinstance(entry, Mapping):
        return ", ".join(str(value) for value in entry.values())
    return str(entry)


def _numbers(cell: Cell) -> list[str]:
    """The texts of NUMBERS after the strategy."""

    def number(value: float | None) -> str:
        return "–" if value is None else f"{value:.3g}"

    success = cell["success"]
    return [
        cell["delay"],
        f"{cell['mean_delay']:.3g}",
        str(cell["execution_horizon"]),
        percent(success["value"]),
        interval(success["low"], success["high"]),
        f"{cell['successes']}/{cell['episodes']}",
        *(number(cell[name]) for name in ("time_to_success", "boundary_jump", "prefix_error", "rms_jerk")),
        f"{cell['starved_ticks']:.1f}",
        f"{cell['network_calls']:.0f}",
        f"{cell['vjps']:.0f}",
        ", ".join(f"{count} {reason}" for reason, count in cell["failures"].items()) or "none",
    ]
