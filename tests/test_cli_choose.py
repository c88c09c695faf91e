"""`rtc choose`: what a sweep found best becomes what `auto` runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sweep_folder import make_cell, make_summary, write_sweep
from test_cli import TASK, call, one_line, save_policy

from rtc.cli.assemble import build_strategy
from rtc.cli.build import Builder
from rtc.cli.choice import CHOICE, read_choice
from rtc.errors import CheckpointError
from rtc.runtime.latency import ConstantDelay
from rtc.runtime.rollout import rollout

DELAYS = ("0", "4", "spiky:2:8:0.1")


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """Told of at most 8 committed actions."""
    return save_policy(tmp_path / "policy", max_delay=8)


def sweep(folder: Path, policy: Path, successes: dict[str, float], delays: tuple[str, ...] = DELAYS) -> Path:
    """A finished sweep of this policy in which each strategy succeeds so often, at every delay."""
    random = np.random.default_rng(0)
    cells = []
    for strategy, share in successes.items():
        for delay in delays:
            cell = make_cell(TASK, strategy, delay, random)
            wins = round(64 * share)
            rate = {"value": wins / 64, "low": 0.0, "high": 1.0}
            outcomes = "1" * wins + "0" * (64 - wins)
            cells.append(cell | {"successes": wins, "success": rate, "outcomes": outcomes})
    weights = {TASK: Builder.check(TASK, policy).fingerprints([("naive", {})])}
    summary = make_summary([TASK]) | {"cells": cells, "settings": {"policy_sha256": weights}}
    return write_sweep(folder, summary)


def choose(policy: Path, *folders: Path) -> Any:
    return call("choose", *map(str, folders), "--policy", f"{TASK}={policy}")


def actions(name: str, policy: Path, **options: Any) -> np.ndarray:
    """What is executed in an episode with some delay."""
    strategy = build_strategy(name, policy, TASK, **options)
    env = Builder.check(TASK, policy).env()()
    return rollout(env, strategy, execution_horizon=4, delay=ConstantDelay(3), seed=1).actions


def test_auto_runs_the_best_that_a_robot_can_run(policy: Path, tmp_path: Path) -> None:
    shares = {"oracle": 1.0, "rollforward": 0.95, "naive": 0.5, "blend:keep=0.6": 0.9, "conditioned": 0.7}
    before = actions("auto", policy)
    result = choose(policy, sweep(tmp_path / "sweep", policy, shares))
    assert result.exit_code == 0, result.stderr
    noted = json.loads((policy / CHOICE).read_text())
    assert (noted["strategy"], noted["next_best"]) == ("blend:keep=0.6", "conditioned")
    assert noted["success"] == pytest.approx(58 / 64)
    assert noted["delays"] == list(DELAYS)
    assert "blend:keep=0.6" in result.stdout
    chosen = actions("auto", policy)
    assert np.array_equal(chosen, actions("blend", policy, keep=0.6))
    assert not np.array_equal(chosen, before)


def test_who_left_a_delay_out_is_not_chosen(policy: Path, tmp_path: Path) -> None:
    everywhere = sweep(tmp_path / "a", policy, {"naive": 0.5, "conditioned": 0.6})
    easy = sweep(tmp_path / "b", policy, {"seam": 1.0}, delays=("0",))
    assert choose(policy, everywhere, easy).exit_code == 0
    assert str(read_choice(policy)) == "conditioned"


def test_a_sweep_notes_what_auto_runs(policy: Path, tmp_path: Path) -> None:
    builder = Builder.check(TASK, policy)
    found = []
    for name in ("naive", "seam"):
        choose(policy, sweep(tmp_path / name, policy, {name: 0.9}))
        found.append(builder.fingerprints([("auto", {})]))
    assert set(found[0]) == set(found[1]) == {CHOICE, "policy"}
    assert found[0][CHOICE] != found[1][CHOICE]
    assert found[0]["policy"] == found[1]["policy"]


def test_a_sweep_of_another_policy_is_refused(policy: Path, tmp_path: Path) -> None:
    other = save_policy(tmp_path / "other", max_delay=4)
    line = one_line(choose(policy, sweep(tmp_path / "sweep", other, {"naive": 0.9})))
    assert f"ran another policy of {TASK}" in line
    assert f"--policy {TASK}=FOLDER" in line
    assert not (policy / CHOICE).exists()


def test_where_no_robot_can_run_anything_nothing_is_written(policy: Path, tmp_path: Path) -> None:
    line = one_line(choose(policy, sweep(tmp_path / "sweep", policy, {"oracle": 1.0, "rollforward": 0.9})))
    assert "no strategy that a robot can run" in line
    assert not (policy / CHOICE).exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no JSON", "is damaged"),
        ("[]", "is damaged"),
        ('{"strategy": 3}', "'3' does not exist"),
        ('{"strategy": "wait"}', "'wait' does not exist"),
        ('{"strategy": "auto"}', "names auto itself"),
    ],
)
def test_a_damaged_choice_is_refused_with_the_remedy(policy: Path, text: str, message: str) -> None:
    (policy / CHOICE).write_text(text)
    with pytest.raises(CheckpointError, match=f"{message}.*`rtc choose`, or remove it"):
        read_choice(policy)
