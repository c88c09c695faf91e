"""`rtc demos`, `rtc train`, `rtc train-check`: interrupted, resumed, refused, never half-written."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file

from envs.demos import Recipe, record
from envs.reach_past_post import ReachPastPost
from policies.checkpoint import load_policy
from policies.training import STATE, Training
from rtc.cli import main
from rtc.dataset import MANIFEST, read_demonstrations
from rtc.shards import shard_path

# In `rtc.cli` their names are the commands.
DEMOS, TRAINING = import_module("rtc.cli.demos"), import_module("rtc.cli.train_loop")

ROOT = Path(__file__).parents[1]
EPISODES = 6
SHARD = 2
TRAIN = ["--steps", "6", "--batch-size", "8", "--threads", "1"]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)


def demos(out: Path, *more: object) -> Result:
    plain = ["--workers", 1, "--format", "plain"]
    return run("demos", "--episodes", EPISODES, *plain, "--out", out, *more)


def refusal(result: Result) -> str:
    """The one line on stderr of a refused command."""
    assert result.exit_code == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("rtc: error: ")
    return line


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def shards(folder: Path) -> list[bytes]:
    return [shard_path(folder, index).read_bytes() for index in range(EPISODES // SHARD)]


class Interrupt:
    """The function it wraps, until its n-th call, which is a Ctrl-C."""

    def __init__(self, function: Callable, call: int) -> None:
        self.function, self.left = function, call

    def __get__(self, instance: object, owner: type) -> Callable:
        return lambda *arguments: self(instance, *arguments)

    def __call__(self, *arguments: object) -> object:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return self.function(*arguments)


@pytest.fixture(scope="module", autouse=True)
def small_shards() -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DEMOS, "SHARD", SHARD)
        patch.setattr("rtc.cli.demos_source.SPREAD_EPISODES", 1)
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demos") / "data"
    result = demos(folder)
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture(scope="module")
def checkpoint(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("train") / "checkpoint"
    result = run("train", "--data", data, "--out", folder, *TRAIN)
    assert result.exit_code == 0, result.output
    return folder


def test_a_recording_says_what_it_holds(data: Path) -> None:
    demonstrations, manifest = read_demonstrations(data, "ReachPastPost-v0")
    assert sorted(set(demonstrations.episode.tolist())) == list(range(1_000_000, 1_000_000 + EPISODES))
    assert (manifest["episodes"], manifest["seed"]) == (EPISODES, 1_000_000)
    assert manifest["chunks"] == len(demonstrations.obs)
    assert manifest["recipe"]["horizon"] == demonstrations.chunks.shape[1]
    assert manifest["expert"] == "envs.reach_past_post_expert.Expert"
    assert sum(manifest["modes"].values()) == EPISODES
    assert manifest["modes"].keys() <= {"left", "right"}
    assert manifest["success"] == pytest.approx(demonstrations.success.mean(), abs=1e-4)
    assert all(0 < part < 1 for part in manifest["spread"])
    assert {"commit", "versions"} <= manifest.keys()
    assert sorted(contents(data)) == sorted([MANIFEST, *(shard_path(data, i).name for i in range(3))])


def test_two_workers_record_what_one_does_to_the_bit(data: Path, tmp_path: Path) -> None:
    result = demos(tmp_path / "two", "--workers", 2)
    assert result.exit_code == 0, result.output
    assert shards(tmp_path / "two") == shards(data)


def test_an_interrupted_recording_keeps_its_shards_and_goes_on(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(DEMOS, "write_shard", Interrupt(DEMOS.write_shard, 2))
        assert demos(tmp_path).exit_code == 130
    first = shard_path(tmp_path, 0).stat().st_mtime_ns
    assert sorted(contents(tmp_path)) == [MANIFEST, shard_path(tmp_path, 0).name]
    assert "lacks 2 of 3 shards" in refusal(run("train", "--data", tmp_path, "--out", tmp_path / "x", *TRAIN))
    assert demos(tmp_path).exit_code == 0
    assert shard_path(tmp_path, 0).stat().st_mtime_ns == first  # not recorded again
    assert shards(tmp_path) == shards(data)


def test_recording_again_changes_nothing_and_other_arguments_need_force(data: Path, tmp_path: Path) -> None:
    for name, content in contents(data).items():
        (tmp_path / name).write_bytes(content)
    manifest = json.loads((tmp_path / MANIFEST).read_text()) | {"commit": "of the day it was recorded"}
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    assert demos(tmp_path).exit_code == 0
    assert json.loads((tmp_path / MANIFEST).read_text()) == manifest
    assert shards(tmp_path) == shards(data)
    line = refusal(demos(tmp_path, "--episodes", 2, "--seed", 5))
    assert "another episodes, seed, shards" in line
    assert "--force" in line
    assert shards(tmp_path) == shards(data)
    assert "another recipe" in refusal(demos(tmp_path, "--no-prefix-oracle"))
    assert demos(tmp_path, "--episodes", 2, "--seed", 5, "--force").exit_code == 0
    assert sorted(contents(tmp_path)) == [MANIFEST, shard_path(tmp_path, 0).name]


def test_a_full_disk_keeps_the_manifest_and_the_finished_shards_and_says_how_to_go_on(
    data: Path, tmp_path: Path
) -> None:
    """The kernel refuses files above a size that a manifest has and a shard has not, as a full disk would."""
    biggest = (data / MANIFEST).stat().st_size + 1000
    assert biggest < min(map(len, shards(data)))
    command = [sys.executable, "-m", "rtc.cli", "demos", "--episodes", str(EPISODES), "--format", "plain"]
    done = subprocess.run(
        [*command, "--workers", "1", "--out", str(tmp_path / "data")],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (biggest, biggest)),
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert re.match(r"rtc: error: .*shard-00000.safetensors could not be written .*File too large", line)
    assert "give the same `rtc demos` command again" in line
    assert list(contents(tmp_path / "data")) == [MANIFEST]
    assert json.loads((tmp_path / "data" / MANIFEST).read_text())["episodes"] == EPISODES


def test_without_the_prefix_oracle_labels_are_the_expert_alone(tmp_path: Path) -> None:
    assert demos(tmp_path, "--no-prefix-oracle").exit_code == 0
    alone, manifest = read_demonstrations(tmp_path)
    assert manifest["recipe"]["max_prefix"] == 0
    expected = record(ReachPastPost, range(1_000_000, 1_000_000 + EPISODES), Recipe(max_prefix=0))
    assert np.array_equal(alone.chunks, expected.chunks)


@pytest.mark.parametrize("force", [[], ["--force"]])
@pytest.mark.parametrize("name", ["thesis.tex", MANIFEST])
def test_a_folder_of_something_else_is_left_alone(tmp_path: Path, name: str, force: list[str]) -> None:
    (tmp_path / name).write_text("precious")
    assert "left alone: choose another --out" in refusal(demos(tmp_path, *force))
    assert contents(tmp_path) == {name: b"precious"}


def test_a_checkpoint_says_how_it_was_made_and_holds_nothing_else(checkpoint: Path) -> None:
    names = set(contents(checkpoint))
    assert names - {"loss.png"} == {"config.json", "model.safetensors", "recipe.json"}
    recipe = json.loads((checkpoint / "recipe.json").read_text())
    assert recipe["training"]["steps"] == 6
    assert recipe["data"]["episodes"] == EPISODES
    assert recipe["curve"][-1]["step"] == 6
    assert {"commit", "versions", "machine", "seconds", "held_out_loss"} <= recipe.keys()
    assert load_policy(checkpoint, "ReachPastPost-v0").horizon == 16


def test_an_interrupted_training_goes_on_to_the_same_weights(
    data: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TRAINING, "SAVE_EVERY", 2)
    monkeypatch.setattr(TRAINING, "REPORT_EVERY", 2)
    out = tmp_path / "checkpoint"
    with monkeypatch.context() as patch:
        patch.setattr(Training, "advance", Interrupt(Training.advance, 4))
        assert run("train", "--data", data, "--out", out, *TRAIN).exit_code == 130
    assert list(contents(out)) == [STATE]
    assert torch.load(out / STATE, weights_only=True)["step"] == 2
    line = refusal(run("train", "--data", data, "--out", out, *TRAIN, "--seed", 4))
    assert "another seed" in line
    assert run("train", "--data", data, "--out", out, *TRAIN).exit_code == 0
    resumed, whole = (load_file(folder / "model.safetensors") for folder in (out, checkpoint))
    assert resumed.keys() == whole.keys()
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)
    assert not (out / STATE).exists()


def test_a_finished_checkpoint_is_replaced_with_force_only_and_only_when_the_new_one_is_there(
    data: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, content in contents(checkpoint).items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "README.md").write_text("about these weights")
    before = contents(tmp_path)
    again = ["train", "--data", data, "--out", tmp_path, *TRAIN, "--seed", 1]
    assert "holds a finished checkpoint" in refusal(run(*again))
    assert contents(tmp_path) == before
    with monkeypatch.context() as patch:
        patch.setattr(Training, "advance", Interrupt(Training.advance, 3))
        assert run(*again, "--force").exit_code == 130
    assert {name: content for name, content in contents(tmp_path).items() if name != STATE} == before
    assert run(*again).exit_code == 0  # goes on with what --force began
    after = contents(tmp_path)
    assert after.keys() == before.keys()
    assert after["model.safetensors"] != before["model.safetensors"]
    assert after["README.md"] == b"about these weights"


def test_training_leaves_a_folder_of_something_else_alone(data: Path, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("precious")
    for force in ([], ["--force"]):
        line = refusal(run("train", "--data", data, "--out", tmp_path, *TRAIN, *force))
        assert "left alone: choose another --out" in line
    assert contents(tmp_path) == {"README.md": b"precious"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["demos", "--task", "Nowhere-v0"], "'Nowhere-v0' does not exist; choose from .*ReachPastPost-v0"),
        (["demos", "--episodes", "0"], "--episodes.* is not in the range x>=1"),
        (["demos", "--max-prefix", "0"], "--max-prefix.* is not in the range 1<=x<=16"),
        (["demos", "--format", "csv"], "--format.*'csv' is not one of 'lerobot', 'plain'"),
        (["demos", "--env", "gymnasium:Pendulum-v1"], "gymnasium:Pendulum-v1 ships no expert"),
        (["demos", "--cameras", "nose"], "cameras is 'nose'; it can be 'front' or 'top'"),
        (["train", "--data", "nowhere"], "manifest.json is missing"),
        (["train", "--data", "DATA", "--task", "ReachPastPostPosition-v0"], "of ReachPastPost-v0, not of"),
        (["train", "--data", "DATA", "--learning-rate", "nan"], "learning_rate is nan"),
        (["train", "--data", "DATA", "--learning-rate", "-1"], "learning_rate is -1"),
        (["train", "--data", "DATA", "--steps", "0"], "--steps.* is not in the range x>=1"),
        (["train"], "Missing option '--data'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line_and_writes_nothing(
    data: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    arguments = [str(data) if argument == "DATA" else argument for argument in arguments]
    assert re.search(message, refusal(run(*arguments, "--out", tmp_path / "out")))
    assert not list(tmp_path.iterdir())


def test_too_few_episodes_to_hold_one_out_are_refused(tmp_path: Path) -> None:
    few = tmp_path / "few"
    assert demos(few, "--episodes", 1, "--seed", 3).exit_code == 0
    line = refusal(run("train", "--data", few, "--out", tmp_path / "out", *TRAIN))
    assert "too few episodes to hold out every 25th" in line
    assert not (tmp_path / "out").exists()


def test_train_check_reports_and_judges() -> None:
    """As a person would type it; what it prints decides its exit code."""
    done = subprocess.run(
        [sys.executable, "-m", "rtc.cli", "train-check", "--episodes", "25", "--steps", "80"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    numbers = [float(number) for number in re.findall(r"-?\d+\.\d+", done.stdout)]
    assert len(numbers) == 4, done.stderr
    before, after, untrained, trained = numbers
    assert after < before
    good = after < 0.8 * before and trained > untrained + 0.3
    assert done.returncode == (0 if good else 2)
    if not good:
        assert done.stderr.splitlines()[-1].startswith("rtc: error: training does not work")
