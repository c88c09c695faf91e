"""No table in the documentation is written by hand: the committed results make the committed pages."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmarks import ablations, delay_sweep, digits, gate_tables, outside, strategies, strategy_study
from benchmarks.study import RESULTS
from rtc.serialise import read_json

ROOT = Path(__file__).parents[1]


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """README.md and docs/ with every generated table emptied, where the reports write now."""
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    shutil.copy(ROOT / "README.md", tmp_path)
    for page in tmp_path.rglob("*.md"):
        lines, inside = [], False
        for line in page.read_text().splitlines():
            inside = inside and not line.startswith("<!-- /")
            if not inside:
                lines.append(line)
            inside = inside or (line.startswith("<!-- ") and not line.startswith("<!-- /"))
        page.write_text("\n".join(lines) + "\n")
    for image in (tmp_path / "docs" / "images").glob("*s*.png"):
        image.unlink()
    for module in (ablations, delay_sweep, digits, gate_tables, outside, strategies, strategy_study):
        monkeypatch.setattr(module, "DOCS", tmp_path / "docs")
    return tmp_path


def test_the_committed_results_make_the_committed_pages(copy: Path) -> None:
    emptied = (copy / "docs" / "delay.md").read_text()
    delay_sweep.report(read_json(RESULTS / "delay_sweep.json"), read_json(RESULTS / "delay_sweep_twin.json"))
    ablations.report(read_json(RESULTS / "ablations.json"))
    gate_tables.report(RESULTS / "gates")
    outside.report(read_json(RESULTS / "outside.json"))
    digits.report(read_json(RESULTS / "digits.json"))
    strategies.report()
    strategy_study.report()
    assert emptied != (copy / "docs" / "delay.md").read_text()
    pages = ("delay", "tasks", "images", "outside", "strategies", "study")
    for page in ("README.md", *(f"docs/{name}.md" for name in pages)):
        assert (copy / page).read_text() == (ROOT / page).read_text(), page
    for image in ("success.png", "delay_sweep.png", "digits.png", "study.png"):
        assert (copy / "docs" / "images" / image).stat().st_size > 10_000


@pytest.mark.parametrize(
    "name",
    [str(path.relative_to(RESULTS).with_suffix("")) for path in sorted(RESULTS.rglob("*.json"))],
)
def test_committed_results_name_the_commit_and_the_machine(name: str) -> None:
    document = read_json(RESULTS / f"{name}.json")
    assert len(document["commit"].rstrip("+")) == 40
    assert document["machine"]["cores"] >= 1
