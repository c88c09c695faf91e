"""`rtc train-dynamics`: killed, refused, and put to use beside a policy."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file

from envs.demos import Recipe, record_episodes
from policies.checkpoint import DYNAMICS, load_dynamics
from policies.flow import FlowPolicy
from rtc.cli import main, train_loop
from rtc.cli.build import Builder
from rtc.cli.demos_source import expert_env
from rtc.cli.strategy_text import parse_strategy
from rtc.dataset import MANIFEST
from rtc.errors import CheckpointError, Unsupported
from rtc.runtime.latency import ConstantDelay
from rtc.runtime.rollout import rollout
from rtc.runtime.strategies import Rollforward
from rtc.serialise import write_json
from rtc.shards import write_shard
from rtc.training import STATE

ROOT, TASK = Path(__file__).parents[1], "ReachPastPost-v0"
TEXT = parse_strategy("rollforward:model=learned:ahead=3")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["train-dynamics", *map(str, arguments)], catch_exceptions=False)


def refusal(*arguments: object) -> str:
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.splitlines()
    return line


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, first = tmp_path_factory.mktemp("data"), 1_000_000
    write_shard(folder, 0, record_episodes(partial(expert_env, TASK), range(first, first + 6), Recipe()))
    write_json(folder / MANIFEST, {"task": TASK, "shards": 1})
    return folder


@pytest.fixture(scope="module")
def made(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy's folder, with dynamics."""
    folder = tmp_path_factory.mktemp("made") / "policy"
    FlowPolicy(TASK, 18, 3, channels=16, blocks=1).save_pretrained(folder)
    result = run("--data", data, "--out", folder / DYNAMICS, "--steps", 60, "--batch-size", 32, "--half")
    assert result.exit_code == 0, result.output
    return folder


def test_the_checkpoint_says_how_far_off_it_is_beside_those_who_learn_nothing(made: Path) -> None:
    recipe = json.loads((made / DYNAMICS / "recipe.json").read_text())
    assert recipe["data"]["task"] == load_dynamics(made / DYNAMICS, TASK).task == TASK
    assert recipe["training"]["ahead"] == 8
    assert list(recipe["errors"]) == ["1", "4", "8"]
    for errors in recipe["errors"].values():
        assert list(errors) == ["learned", "nothing changes", "last change goes on"]
    assert recipe["errors"]["8"]["learned"] < recipe["errors"]["8"]["nothing changes"]


def test_beside_a_policy_they_are_found_run_without_privilege_and_recorded(made: Path) -> None:
    builder = Builder.check(TASK, made)
    strategy = builder.strategy(TEXT.name, **TEXT.options)()
    assert isinstance(strategy, Rollforward)
    assert not strategy.privileged
    episode = rollout(builder.env()(), strategy, execution_horizon=4, delay=ConstantDelay(4), seed=3)
    for record in episode.chunks[1:]:
        assert (record.chunk[:3] == record.frozen[:3]).all()
    assert set(builder.fingerprints([("naive", {})])) == {"policy"}
    assert set(builder.fingerprints([(TEXT.name, TEXT.options)])) == {"policy", DYNAMICS}


def test_without_dynamics_it_is_said_what_to_train_and_where(made: Path, tmp_path: Path) -> None:
    FlowPolicy(TASK, 18, 3, channels=16, blocks=1).save_pretrained(tmp_path)
    builder = Builder.check(TASK, tmp_path)
    with pytest.raises(Unsupported, match=f"rtc train-dynamics --data DATA --out {tmp_path / DYNAMICS}"):
        builder.strategy(TEXT.name, **TEXT.options)
    assert set(builder.fingerprints([(TEXT.name, TEXT.options)])) == {"policy"}
    other = load_dynamics(made / DYNAMICS)
    other.save_pretrained(tmp_path / DYNAMICS, config=vars(other)["_hub_mixin_config"] | {"task": "Peg-v0"})
    with pytest.raises(CheckpointError, match="was trained for Peg-v0, not for ReachPastPost-v0"):
        builder.strategy(TEXT.name, **TEXT.options)


def test_what_cannot_be_trained_is_refused_and_nothing_is_written(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert "too few episodes" in refusal("--data", _of_one_episode(tmp_path / "one"), "--out", out)
    assert "smaller --ahead than 5000" in refusal("--data", data, "--out", out, "--ahead", 5000)
    assert "holds demonstrations of ReachPastPost-v0, not of Peg-v0" in refusal(
        "--data", data, "--out", out, "--task", "Peg-v0"
    )
    assert "does not exist" in refusal("--data", data, "--out", out, "--task", "Nothing-v0")
    assert not out.exists()


def _of_one_episode(folder: Path) -> Path:
    write_shard(folder, 0, record_episodes(partial(expert_env, TASK), [1_000_001], Recipe()))
    write_json(folder / MANIFEST, {"task": TASK, "shards": 1})
    return folder


@pytest.mark.slow
def test_killed_with_9_and_given_again_it_is_as_if_it_had_never_stopped(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["--data", data, "--steps", 60, "--batch-size", 16, "--threads", 1, "--out"]
    program = (
        "import sys; from rtc.cli import main, train_loop; train_loop.SAVE_EVERY = 5; main(sys.argv[1:])"
    )
    command = [sys.executable, "-c", program, "train-dynamics", *map(str, arguments), tmp_path / "killed"]
    killed = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"})
    state = tmp_path / "killed" / STATE
    while not state.exists() or torch.load(state, weights_only=True)["step"] < 5:
        assert killed.poll() is None
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    assert 0 < torch.load(state, weights_only=True)["step"] < 60
    monkeypatch.setattr(train_loop, "SAVE_EVERY", 5)
    for out in ("killed", "whole"):
        result = run(*arguments, tmp_path / out)
        assert result.exit_code == 0, result.output
    one, other = (load_file(tmp_path / out / "model.safetensors") for out in ("killed", "whole"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    recipes = [json.loads((tmp_path / out / "recipe.json").read_text()) for out in ("killed", "whole")]
    assert recipes[0]["held_out_loss"] == recipes[1]["held_out_loss"]
    assert recipes[0]["errors"] == recipes[1]["errors"]
    assert not state.exists()
