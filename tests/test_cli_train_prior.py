"""`rtc train-prior`: trained, interrupted, resumed, refused, never half-written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file

from rtc.cli import main
from rtc.inverse.images.model import load_model
from rtc.inverse.images.training import ImageTraining
from rtc.training import STATE

TRAIN = ["--steps", "3", "--batch-size", "4", "--threads", "1"]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["train-prior", *map(str, arguments)], catch_exceptions=False)


def refusal(result: Result) -> str:
    """The one line on stderr of a refused command."""
    assert result.exit_code == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("rtc: error: ")
    return line


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path, random = tmp_path_factory.mktemp("images") / "images.npz", np.random.default_rng(0)
    pixels = random.integers(0, 256, (41, 8, 12)).astype(np.uint8)
    np.savez(path, images=pixels, labels=np.arange(41) % 3)
    return path


def interrupted(method: Callable, call: int) -> Callable:
    """The method, until its n-th call, which is a Ctrl-C."""
    left = [call]

    def wrapped(*arguments: object) -> object:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return method(*arguments)

    return wrapped


@pytest.mark.parametrize("loss", ["flow", "eps", "score"])
def test_a_prior_is_trained_saved_and_says_how_it_was_made(loss: str, data: Path, tmp_path: Path) -> None:
    result = run("--data", data, "--out", tmp_path / "prior", "--loss", loss, *TRAIN)
    assert result.exit_code == 0
    assert "held-out loss" in result.stderr
    model = load_model(tmp_path / "prior")
    assert (model.loss, model.shape, model.classes) == (loss, (1, 8, 12), 3)
    assert model.data_std == pytest.approx(0.58, abs=0.03)  # of uniform grey levels
    recipe = json.loads((tmp_path / "prior" / "recipe.json").read_text())
    assert recipe["training"]["steps"] == 3
    assert recipe["data"] == {"file": "images.npz", "images": 38, "held_out": 3}
    assert recipe["loss"] == loss
    assert recipe["held_out_loss"] == recipe["curve"][-1]["held_out"]
    assert not (tmp_path / "prior" / STATE).exists()


def test_an_interrupted_training_goes_on_to_the_same_weights(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("--data", data, "--out", tmp_path / "whole", *TRAIN)
    with monkeypatch.context() as patch:
        patch.setattr(ImageTraining, "advance", interrupted(ImageTraining.advance, 2))
        stopped = run("--data", data, "--out", tmp_path / "resumed", *TRAIN)
        assert stopped.exit_code == 130
    assert [path.name for path in (tmp_path / "resumed").iterdir()] == [STATE]
    assert run("--data", data, "--out", tmp_path / "resumed", *TRAIN).exit_code == 0
    whole, resumed = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "resumed"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_finished_prior_is_replaced_with_force_only(data: Path, tmp_path: Path) -> None:
    assert run("--data", data, "--out", tmp_path, *TRAIN).exit_code == 0
    before = (tmp_path / "model.safetensors").read_bytes()
    assert "--force" in refusal(run("--data", data, "--out", tmp_path, *TRAIN))
    assert (tmp_path / "model.safetensors").read_bytes() == before
    assert run("--data", data, "--out", tmp_path, "--seed", 1, "--force", *TRAIN).exit_code == 0
    assert (tmp_path / "model.safetensors").read_bytes() != before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--learning-rate", "nan"], "learning_rate is nan"),
        (["--loss", "gan"], "'gan' is not one of 'flow', 'eps', 'score'"),
        (["--data", "nowhere.npz"], "nowhere.npz does not exist; get digits"),
        (["--data", "odd.npz"], "sides that 4 divides"),
        (["--data", "one.npz"], "holds 1 images; a prior needs more"),
        (["--data", "grey.npz"], "data_std is 0.0"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_bad_input_is_one_line_and_writes_nothing(
    arguments: list[str], says: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("odd.npz", images=np.arange(30 * 81).astype(np.uint8).reshape(30, 9, 9))
    np.savez("grey.npz", images=np.full((30, 8, 8), 9, np.uint8))
    np.savez("one.npz", images=np.zeros((1, 8, 8), np.uint8))
    assert says in refusal(run("--data", data, "--out", "prior", *TRAIN, *arguments))
    assert not Path("prior").exists()
