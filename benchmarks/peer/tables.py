"""The tables of docs/peers.md, from the document alone."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any, TypeAlias

PACKAGES = ("rtc", "deepinv", "azula")
SLOWEST, WORST = 1.05, 0.1
"""The bars: time a network call over the faster peer's, and dB below the better one."""

ORDER = (
    *("ddpm", "ddim", "pigdm", "pigdm, data_std", "mmps", "tmpd", "prox", "diffpir", "diffpir, ancestral"),
    *("dps", "dps, best weight", "dps, in the score", "dps, in the score, best weight", "dps annealed"),
    *("dps of the batch", "score-ald", "score-ald, Langevin", "score-sde", "score-sde, to the end"),
    *("score-sde, in the score", "ilvr", "repaint", "ddrm", "ddrm, mended", "tds"),
)
"""Methods in the order of the tables."""

Row: TypeAlias = dict[str, Any]


def known_table(rows: list[Row]) -> str:
    """The error of every method on the problems whose answer is known."""
    lines = [
        "| method | problem | calls | rtc | deepinv | azula | same noise, apart by | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for method, problem, of in cells(rows):
        apart = [f"{of[peer]['difference']:.0e}" for peer in PACKAGES[1:] if "difference" in of.get(peer, {})]
        close = [value for value in apart if float(value) < 1e-2]
        errors = " | ".join(_number(of.get(package), "error", ".3f") for package in PACKAGES)
        lines.append(
            f"| {method} | {problem} | {_calls(of)} | {errors} | {', '.join(close) or '-'} | "
            f"{verdict(of, 'error')} |"
        )
    floors = {row["problem"]: row["floor"] for row in rows}
    weights = "; ".join(
        f"{row['package']} {row['weight']:g} ({row['method'].replace(', best weight', '')}, {row['problem']})"
        for row in rows
        if "weight" in row
    )
    lines.append("")
    words = ", ".join(f"{value:.3f} ({name})" for name, value in floors.items())
    lines.append(f"As many exact samples have an error of at most {words}; a smaller difference is none.")
    lines.append(f"Best weights: {weights}.")
    return "\n".join(lines)


def image_table(rows: list[Row]) -> str:
    """PSNR and data residual of every method on the photograph."""
    lines = [
        "| method | problem | calls | PSNR, dB: rtc | deepinv | azula | residual: rtc | deepinv | azula | |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for method, problem, of in cells(rows):
        values = " | ".join(_psnr(of.get(package)) for package in PACKAGES)
        residuals = " | ".join(_number(of.get(package), "residual", ".2f") for package in PACKAGES)
        lines.append(
            f"| {method} | {problem} | {_calls(of)} | {values} | {residuals} | {verdict(of, 'psnr')} |"
        )
    return "\n".join(lines)


def cost_table(times: list[Row], memory: list[Row]) -> str:
    """Milliseconds a network call and peak memory."""
    lines = [
        "| method | ms a call: rtc | deepinv | azula | rtc / faster peer | MB at peak: rtc | deepinv | azula "
        "| |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    grown = {row["method"]: row["bytes"] for row in memory}
    for row in sorted(times, key=lambda row: ORDER.index(row["method"])):
        seconds, most = row["seconds"], max(row["ratios"].values())
        milliseconds = " | ".join(
            f"{1e3 * sorted(seconds[package])[len(seconds[package]) // 2]:.1f}" if package in seconds else "-"
            for package in PACKAGES
        )
        megabytes = " | ".join(
            f"{grown[row['method']][package] / 1e6:.0f}" if package in seconds else "-"
            for package in PACKAGES
        )
        mark = "" if most <= SLOWEST else "**slower**"
        lines.append(f"| {row['method']} | {milliseconds} | {most:.3f} | {megabytes} | {mark} |")
    return "\n".join(lines)


def bars(document: dict[str, Any]) -> str:
    """How many comparisons each bar was met in."""
    known = [verdict(of, "error") for of in _pairs(document["known"])]
    images = [verdict(of, "psnr") for of in _pairs(document["images"])]
    speed = [max(row["ratios"].values()) <= SLOWEST for row in document["times"]]
    return "\n".join(
        [
            "| bar | met |",
            "|---|---|",
            f"| known-answer error no worse than the better peer's | {known.count('')} of {len(known)} |",
            f"| PSNR at most {WORST} dB below the better peer's | {images.count('')} of {len(images)} |",
            f"| time a network call at most {SLOWEST} of the faster peer's | {sum(speed)} of {len(speed)} |",
        ]
    )


def _pairs(rows: list[Row]) -> list[dict[str, Row]]:
    """The cells that ours shares with a peer as it is released."""
    mended = "ddrm, mended"
    return [of for method, _, of in cells(rows) if len(of) > 1 and "rtc" in of and method != mended]


def cells(rows: list[Row]) -> Iterator[tuple[str, str, dict[str, Row]]]:
    """(method, problem, package -> row), by method."""
    problems = list(dict.fromkeys(row["problem"] for row in rows))
    ordered = sorted(rows, key=lambda row: (ORDER.index(row["method"]), problems.index(row["problem"])))
    for (method, problem), group in groupby(ordered, key=lambda row: (row["method"], row["problem"])):
        yield method, problem, {row["package"]: row for row in group}


def verdict(of: dict[str, Row], measure: str) -> str:
    """Empty where ours is no worse than the better peer's; a word where it is, or where there is no pair."""
    ours, peers = of.get("rtc"), [row for package, row in of.items() if package != "rtc" and row["finite"]]
    if ours is None or len(of) == 1:
        return "no pair"
    if not ours["finite"]:
        return "**not finite**"
    if measure == "error":
        worse = [row for row in peers if ours["error"] > row["error"] + row["floor"]]
    else:
        worse = [row for row in peers if _mean(ours["psnr"]) < _mean(row["psnr"]) - WORST]
    return "**worse**" if worse else ""


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _calls(of: dict[str, Row]) -> str:
    """Network calls + VJPs, package by package where they differ."""
    words = [f"{row['calls']}" + (f" + {row['vjps']}" if row["vjps"] else "") for row in of.values()]
    return " / ".join(dict.fromkeys(words))


def _number(row: Row | None, name: str, form: str) -> str:
    if row is None:
        return "-"
    return format(row[name], form) if row["finite"] else "NaN"


def _psnr(row: Row | None) -> str:
    if row is None:
        return "-"
    if not row["finite"]:
        return "NaN"
    values = row["psnr"]
    spread = f" ({min(values):.2f} to {max(values):.2f})" if len(values) > 1 else ""
    return f"{_mean(values):.2f}{spread}"
