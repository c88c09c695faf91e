"""Sweeps that become one report: what is put together, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sweep_folder import make_summary, write_sweep

from rtc.cli import main
from rtc.errors import InvalidArgument
from rtc.report.merge import merge, read_merged
from rtc.report.winners import winner_table

WHOLE = make_summary()
A, B = Path("a"), Path("b")


def part(*strategies: str, **changes: Any) -> dict[str, Any]:
    """The whole sweep as if only these strategies had been asked for."""
    cells = [cell for cell in WHOLE["cells"] if cell["strategy"] in strategies]
    return WHOLE | {"cells": cells, "settings": {"strategies": list(strategies)}} | changes


def test_parts_of_a_sweep_have_the_winners_of_the_whole() -> None:
    names = [cell["strategy"] for cell in WHOLE["cells"]]
    first, second = part("naive", "oracle"), part(*(set(names) - {"naive", "oracle"}))
    merged = merge({A: first, B: second})
    assert len(merged["cells"]) == len(WHOLE["cells"])

    def facts(cells: Any) -> Any:
        return {
            (c.task, c.delay): (c.best, set(c.tied), c.oracle_share) for c in winner_table(cells).contests
        }

    assert facts(merged["cells"]) == facts(WHOLE["cells"])
    assert merged["seconds"] == 2 * WHOLE["seconds"]
    assert merged["settings"] == {"a": first["settings"], "b": second["settings"]}


def test_one_sweep_is_itself() -> None:
    assert merge({A: WHOLE}) is WHOLE


def test_a_cell_that_both_have_counts_once() -> None:
    merged = merge({A: part("naive", "oracle"), B: part("naive", "conditioned")})
    assert len(merged["cells"]) == len(part("naive", "oracle", "conditioned")["cells"])


def test_what_one_left_out_and_another_has_is_not_missing() -> None:
    missing = [
        {"task": "Catch-v0", "strategy": name, "delay": "8", "horizon": "4", "reason": "no"}
        for name in ("conditioned", "bid")
    ]
    merged = merge({A: part("naive", left_out=missing), B: part("conditioned")})
    assert [each["strategy"] for each in merged["left_out"]] == ["bid"]


def changed(name: str) -> dict[str, Any]:
    """The other part, with one thing different."""
    other = part("conditioned")
    weights = {"policy_sha256": {"Catch-v0": {"Catch-v0": "0" * 64}}}
    if name == "outcomes":
        other = part("naive")
        cell = other["cells"][0]
        flipped = "".join("10"[int(mark)] for mark in cell["outcomes"])
        return other | {"cells": [cell | {"outcomes": flipped}, *other["cells"][1:]]}
    changes = {
        "seeds": {"seeds": [5, 68]},
        "versions of torch": {"versions": WHOLE["versions"] | {"torch": "2.9.0"}},
        "weights Catch-v0 of Catch-v0": {"settings": other["settings"] | weights},
        "descriptions of Peg-v0": {
            "tasks": WHOLE["tasks"] | {"Peg-v0": WHOLE["tasks"]["Peg-v0"] | {"tick_seconds": 0.01}}
        },
    }
    return other | changes[name]


@pytest.mark.parametrize(
    "name", ["seeds", "versions of torch", "weights Catch-v0 of Catch-v0", "descriptions of Peg-v0"]
)
def test_sweeps_whose_cells_are_no_pairs_are_refused(name: str) -> None:
    weights = {"policy_sha256": {"Catch-v0": {"Catch-v0": "f" * 64}}}
    with pytest.raises(InvalidArgument, match=f"a and b cannot be in one report, because the {name} differ"):
        merge({A: part("naive") | {"settings": weights}, B: changed(name)})


def test_other_results_of_the_same_cell_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="other results of naive on Catch-v0 at delay 0"):
        merge({A: part("naive"), B: changed("outcomes")})


def test_the_command_writes_one_page_of_two_sweeps(tmp_path: Path) -> None:
    for name, strategies in (("a", ["naive", "oracle"]), ("b", ["conditioned"])):
        write_sweep(tmp_path / name, part(*strategies))
    page = tmp_path / "both.html"
    words = ["report", str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(page)]
    result = CliRunner(env={"COLUMNS": "80"}).invoke(main, words)
    assert result.exit_code == 0, result.stderr
    assert "both.html: " in result.stdout
    assert all(name in page.read_text() for name in ("naive", "conditioned"))
    assert not (tmp_path / "a/report.html").exists()
    assert len(read_merged([tmp_path / "a", tmp_path / "b"])["cells"]) == len(
        part("naive", "oracle", "conditioned")["cells"]
    )
