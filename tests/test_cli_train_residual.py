"""`rtc train-residual`: trained, interrupted, resumed, refused; and what builds the strategy around it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file

from policies.checkpoint import load_policy, shipped_checkpoint
from policies.residual import load_residual
from rtc.cli import main
from rtc.cli.assemble import build_strategy
from rtc.cli.build import Builder
from rtc.cli.strategy_text import parse_strategy
from rtc.errors import CheckpointError, Unsupported
from rtc.runtime.strategies import Residual
from rtc.training import STATE, Run

TASK = "Catch-v0"
TRAIN = ["--steps", "3", "--batch-size", "8", "--frames", "40", "--draws", "2", "--threads", "1"]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)


def train(policy: Path, data: Path, out: Path, *more: object) -> Result:
    return run("train-residual", "--policy", policy, "--data", data, "--out", out, *TRAIN, *more)


def refusal(result: Result) -> str:
    """The one line on stderr of a refused command."""
    assert result.exit_code == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("rtc: error: ")
    return line


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demos") / TASK
    made = ("--task", TASK, "--episodes", 4, "--seed", 1_000_023, "--workers", 1, "--format", "plain")
    assert run("demos", *made, "--out", out).exit_code == 0
    return out


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """The shipped policy of the task, without its head."""
    ignored = shutil.ignore_patterns("residual")
    return Path(shutil.copytree(shipped_checkpoint(TASK), tmp_path / "policy", ignore=ignored))


def interrupted(method: Callable, call: int) -> Callable:
    """The method, until its n-th call, which is a Ctrl-C."""
    left = [call]

    def wrapped(*arguments: object) -> object:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return method(*arguments)

    return wrapped


def test_a_head_is_trained_where_its_policy_finds_it_and_says_how_it_was_made(
    data: Path, policy: Path
) -> None:
    with pytest.raises(Unsupported, match=r"no residual head; train one with .rtc train-residual --policy"):
        build_strategy("residual", policy, TASK)
    result = train(policy, data, policy / "residual", "--half")
    assert result.exit_code == 0, result.output
    assert "held-out loss" in result.stderr
    assert (policy / "residual" / "model.safetensors").stat().st_size < 200_000
    recipe = json.loads((policy / "residual" / "recipe.json").read_text())
    assert recipe["data"]["task"] == recipe["policy"]["task"] == TASK
    assert recipe["training"]["frames"] == 40
    assert [error["row"] for error in recipe["errors"]] == sorted(
        {error["row"] for error in recipe["errors"]}
    )
    assert all(error["without"] > 0 and error["with"] > 0 for error in recipe["errors"])
    assert not (policy / "residual" / STATE).exists()
    strategy = build_strategy("residual", policy, TASK, inner="realtime", schedule="exp")
    assert isinstance(strategy, Residual)
    assert strategy.inner.name == "realtime"
    assert load_residual(policy / "residual", load_policy(policy)).horizon == strategy.horizon


def test_an_interrupted_training_goes_on_to_the_same_weights(
    data: Path, policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    monkeypatch.setattr("rtc.cli.train_loop.SAVE_EVERY", 2)
    train(policy, data, whole)
    with monkeypatch.context() as patch:
        patch.setattr(Run, "advance", interrupted(Run.advance, 3))
        assert train(policy, data, resumed).exit_code == 130
    assert (resumed / STATE).exists()
    assert not (resumed / "config.json").exists()
    assert "another frames" in refusal(train(policy, data, resumed, "--frames", 30))
    assert train(policy, data, resumed).exit_code == 0
    first, second = (load_file(folder / "model.safetensors") for folder in (whole, resumed))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_training_of_another_policy_is_not_resumed(
    data: Path, policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Run, "advance", interrupted(Run.advance, 1))
        train(policy, data, tmp_path / "head")
    other = shipped_checkpoint(TASK, prefix=True)
    assert "was trained with another policy" in refusal(train(other, data, tmp_path / "head"))


def test_what_cannot_be_trained_on_is_refused_and_nothing_is_written(
    data: Path, policy: Path, tmp_path: Path
) -> None:
    out = tmp_path / "head"
    peg = shipped_checkpoint("Peg-v0")
    assert "holds demonstrations of Catch-v0, not of Peg-v0" in refusal(train(peg, data, out))
    assert "no checkpoint folder" in refusal(train(tmp_path / "nowhere", data, out))
    assert "record it with `rtc demos`" in refusal(train(policy, tmp_path, out))
    assert not out.exists()


def test_a_sweep_notes_the_head_that_it_runs(data: Path, policy: Path) -> None:
    builder = Builder.check(TASK, policy)
    texts = [parse_strategy(text) for text in ("naive", "residual:inner=naive")]
    asked = [[(text.name, text.options)] for text in texts]
    before = [builder.fingerprints(each) for each in asked]
    assert before[0] == before[1]  # there is none yet
    train(policy, data, policy / "residual")
    after = [builder.fingerprints(each) for each in asked]
    assert after[0] == before[0]
    assert set(after[1]) == {"policy", "residual"}


def test_a_sweep_runs_residual_and_leaves_it_out_where_there_is_no_head(policy: Path, tmp_path: Path) -> None:
    out, cell = tmp_path / "sweep", ("--delays", "4", "--episodes", "2", "--workers", "1")
    asked = ("--tasks", TASK, "--strategies", "naive,residual:inner=naive", *cell)
    assert run("sweep", *asked, "--out", out).exit_code == 0
    summary = json.loads((out / "summary.json").read_text())
    assert [each["strategy"] for each in summary["cells"]] == ["naive", "residual:inner=naive"]
    headless = run("sweep", *asked, "--policy", f"{TASK}={policy}", "--out", tmp_path / "other")
    assert headless.exit_code == 0
    assert "train-residual" in headless.output
    summary = json.loads((tmp_path / "other" / "summary.json").read_text())
    assert [each["strategy"] for each in summary["cells"]] == ["naive"]


def test_a_policy_that_is_told_its_prefix_runs_with_the_head_of_the_plain_one() -> None:
    strategy = build_strategy("residual", shipped_checkpoint(TASK).resolve(), TASK, inner="conditioned")
    assert isinstance(strategy, Residual)
    assert (strategy.inner.name, strategy.max_delay) == ("conditioned", 8)


def test_a_damaged_head_is_refused(policy: Path) -> None:
    shutil.copytree(shipped_checkpoint(TASK) / "residual", policy / "residual")
    (policy / "residual" / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="truncated or damaged"):
        build_strategy("residual", policy, TASK)
