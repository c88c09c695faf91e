"""`rtc train` beyond its plainest form: killed, distributed, judged, relabelled, continued, logged."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file

from envs.demos import Recipe, record_episodes
from policies.checkpoint import load_policy, shipped_checkpoint
from policies.flow import FlowPolicy
from policies.training import STATE, Training, TrainingRecipe, flow_matching_loss
from rtc.cli import main, train_loop
from rtc.cli.demos_source import expert_env
from rtc.cli.train_policy import new_policy, split
from rtc.cli.train_rollouts import check_relabelling, driver, success_without_delay
from rtc.dataset import MANIFEST, read_demonstrations
from rtc.errors import CheckpointError, InvalidArgument
from rtc.serialise import write_json
from rtc.shards import read_shard, write_shard
from rtc.training import BETWEEN_RANKS

ROOT, TASK = Path(__file__).parents[1], "ReachPastPost-v0"
TINY = ["--batch-size", "8", "--threads", "1", "--channels", "16", "--blocks", "1"]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["train", *map(str, arguments)], catch_exceptions=False)


def refusal(result: Result) -> str:
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.splitlines()
    return line


def python(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def same(one: Path, other: Path) -> bool:
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, recipe = tmp_path_factory.mktemp("data"), Recipe()
    recording = record_episodes(partial(expert_env, TASK), range(1_000_000, 1_000_006), recipe)
    write_shard(folder, 0, recording)
    write_json(folder / MANIFEST, {"task": TASK, "shards": 1, "recipe": asdict(recipe)})
    return folder


@pytest.mark.slow
def test_killed_with_9_and_given_again_it_is_as_if_it_had_never_stopped(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real process, killed when its state shows it under way; rollouts and rounds are part of it."""
    more = ["--evaluate-every", 20, "--evaluate-episodes", 1, "--dagger", 1, "--dagger-episodes", 1]
    arguments = ["--data", data, "--steps", 40, *TINY, *more, "--out"]
    program = (
        "import sys; from rtc.cli import main, train_loop; train_loop.SAVE_EVERY = 5;"
        "train_loop.REPORT_EVERY = 5; main(sys.argv[1:])"
    )
    killed, state = (
        python("-c", program, "train", *arguments, tmp_path / "killed"),
        tmp_path / "killed" / STATE,
    )
    while not state.exists() or torch.load(state, weights_only=True)["step"] < 5:
        assert killed.poll() is None, killed.communicate()[0]
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    monkeypatch.setattr(train_loop, "SAVE_EVERY", 5)
    monkeypatch.setattr(train_loop, "REPORT_EVERY", 5)
    (tmp_path / "killed" / f".training.{killed.pid}.pt").write_bytes(b"half a file")
    assert 0 < torch.load(state, weights_only=True)["step"] < 40
    for out in ("killed", "whole"):
        result = run(*arguments, tmp_path / out)
        assert result.exit_code == 0, result.output
    assert same(tmp_path / "killed", tmp_path / "whole")
    recipes = [json.loads((tmp_path / out / "recipe.json").read_text()) for out in ("killed", "whole")]
    assert recipes[0]["curve"] == recipes[1]["curve"]
    assert recipes[0]["judged"] == recipes[1]["judged"]
    assert {path.name for path in (tmp_path / "killed").iterdir()} <= {
        "config.json",
        "model.safetensors",
        "recipe.json",
        "loss.png",
    }


@pytest.mark.slow
def test_two_processes_share_the_batch_and_average_their_gradients(data: Path, tmp_path: Path) -> None:
    """As documented, by torchrun; the weights are those of both shares, worked out in one process."""
    arguments = ["--data", data, "--steps", 3, *TINY, "--out", tmp_path / "two"]
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", 2, "--master-port", 29555]
    done = python(*launcher, "-m", "rtc.cli", "train", *arguments)
    output = done.communicate()[0]
    assert done.returncode == 0, output
    assert output.count("held-out loss") == 1  # one process talks, and writes
    assert json.loads((tmp_path / "two" / "recipe.json").read_text())["processes"] == 2

    demonstrations, _ = read_demonstrations(data, TASK)
    torch.manual_seed(0)
    policy = new_policy(TASK, demonstrations, channels=16, blocks=1)
    rows, _ = split(demonstrations, policy, 25)
    recipe = TrainingRecipe(steps=3, batch_size=8)
    training = Training(policy, recipe)
    generators = [torch.Generator().manual_seed(BETWEEN_RANKS * rank) for rank in range(2)]

    def both_shares(
        network: torch.nn.Module, *batch: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor:
        losses = []
        for own in generators:
            chosen = torch.randint(len(rows[0]), (4,), generator=own)
            losses.append(flow_matching_loss(policy, *(values[chosen] for values in rows), generator=own))
        return torch.stack(losses).mean()

    training._training_loss = both_shares
    for _ in range(3):
        training.advance(*rows)
    expected = training.average.state_dict()
    for name, value in weights(tmp_path / "two").items():
        assert torch.allclose(value, expected[name], atol=1e-6), name


def test_the_best_weights_of_the_rollouts_are_kept_and_said(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scores are made up; the weights must be those of a training that stopped at the best of them."""
    scores, seen = iter([0.25, 0.75, 0.75, 0.5]), []

    def score(network: torch.nn.Module, episodes: int) -> float:
        seen.append({name: value.clone() for name, value in network.state_dict().items()})
        assert episodes == 7
        return next(scores)

    monkeypatch.setattr(import_module("rtc.cli.train"), "success_without_delay", score)
    more = ["--evaluate-every", 3, "--evaluate-episodes", 7]
    assert run("--data", data, "--out", tmp_path, "--steps", 10, *TINY, *more).exit_code == 0
    recipe = json.loads((tmp_path / "recipe.json").read_text())
    assert [(point["step"], point["score"]) for point in recipe["judged"]] == [
        (3, 0.25),
        (6, 0.75),
        (9, 0.75),
        (10, 0.5),
    ]
    assert recipe["best_step"] == 9
    assert all(torch.equal(value, seen[2][name]) for name, value in weights(tmp_path).items())
    assert not all(torch.equal(value, seen[3][name]) for name, value in weights(tmp_path).items())


def test_success_without_delay_is_that_of_the_rollouts() -> None:
    policy = load_policy(shipped_checkpoint(TASK), TASK)
    assert success_without_delay(policy, 6) >= 5 / 6
    torch.nn.init.constant_(policy.network.action_out.bias, 3.0)
    assert success_without_delay(policy, 2) == 0.0


def test_rounds_of_relabelling_add_what_the_policy_saw_and_the_expert_said(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []
    advance = Training.advance

    def counting(self: Training, *batch: torch.Tensor) -> float:
        rows.append(len(batch[0]))
        return advance(self, *batch)

    monkeypatch.setattr(Training, "advance", counting)
    more = ["--dagger", 2, "--dagger-episodes", 1, "--max-delay", 4]
    assert run("--data", data, "--out", tmp_path, "--steps", 9, *TINY, *more).exit_code == 0
    assert rows[0] == rows[2] < rows[3] == rows[5] < rows[6] == rows[8]
    assert json.loads((tmp_path / "recipe.json").read_text())["training"]["dagger"] == 2
    assert not (tmp_path / "relabelled").exists()


def test_a_policy_that_knows_prefixes_drives_from_what_is_committed() -> None:
    policy = load_policy(shipped_checkpoint(TASK), TASK, max_delay=4)
    env = expert_env(TASK)
    obs, _ = env.reset(seed=3)
    committed = torch.full((3, 3), 0.5).numpy()
    chunk = driver(policy, seed=1)(obs, committed)
    assert chunk.shape == (16, 3)
    assert chunk[:3] == pytest.approx(committed, abs=1e-6)
    assert chunk[3:] != pytest.approx(0.5, abs=0.05)
    assert (driver(policy, seed=1)(obs, committed) == chunk).all()


def test_what_cannot_be_relabelled_is_refused_before_training(data: Path, tmp_path: Path) -> None:
    arguments = ["--data", data, "--out", tmp_path / "out", "--steps", 2, *TINY, "--dagger", 1]
    assert "without --dagger" in refusal(run(*arguments, "--history", 2))
    assert not (tmp_path / "out").exists()
    with pytest.raises(InvalidArgument, match=r"Pendulum-v1 has no expert that looks ahead"):
        check_relabelling(FlowPolicy("gymnasium:Pendulum-v1", 3, 1, channels=16, blocks=1))


def test_training_goes_on_from_a_checkpoint_with_its_normalisation(data: Path, tmp_path: Path) -> None:
    origin = shipped_checkpoint(TASK)
    few = ["--data", data, "--batch-size", 8, "--threads", 1, "--learning-rate", 1e-9, "--steps", 2]
    result = run(*few, "--from", origin, "--max-delay", 6, "--out", tmp_path / "out", "--half")
    assert result.exit_code == 0, result.output
    before, after = load_policy(origin, TASK), load_policy(tmp_path / "out", TASK)
    assert (before.max_delay, after.max_delay) == (0, 6)
    assert torch.equal(before.obs_mean, after.obs_mean)
    for name, value in before.state_dict().items():  # hardly trained: float16 of what it was
        assert torch.allclose(after.state_dict()[name], value, rtol=1e-3, atol=1e-4), name
    assert json.loads((tmp_path / "out" / "recipe.json").read_text())["from"] == str(origin)
    line = refusal(
        run(*few, "--from", origin, "--channels", 8, "--network", "mixer", "--out", tmp_path / "no")
    )
    assert "leave out --network, --channels" in line
    line = refusal(run(*few, "--from", tmp_path / "nowhere", "--out", tmp_path / "no"))
    assert "no checkpoint folder" in line
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize(
    "more", [["--bfloat16"], ["--network", "transformer", "--times", "beta"], ["--history", "2"]]
)
def test_other_ways_to_train_end_as_a_checkpoint(data: Path, tmp_path: Path, more: list[str]) -> None:
    result = run("--data", data, "--out", tmp_path / "out", "--steps", 2, *TINY, *more, "--obs-dropout", 0.2)
    assert result.exit_code == 0, result.output
    policy = load_policy(tmp_path / "out", TASK)
    assert policy.obs_dropout == 0.2
    assert policy.history == (2 if "--history" in more else 1)
    assert policy.action_low.tolist() == [-1.0] * 3


def test_a_seeing_policy_is_trained_on_recorded_images(data: Path, tmp_path: Path) -> None:
    recording = read_shard(data, 0)
    random = np.random.default_rng(0)
    for camera in ("front", "wrist"):
        shape = (len(recording.state), 24, 24, 3)
        recording.images[camera] = random.integers(0, 256, shape).astype(np.uint8)
    (tmp_path / "data").mkdir()
    write_shard(tmp_path / "data", 0, recording)
    write_json(tmp_path / "data" / MANIFEST, {"task": TASK, "shards": 1})
    seeing = ["--cameras", "wrist", "--network", "transformer", "--out", tmp_path / "out"]
    result = run("--data", tmp_path / "data", "--steps", 2, *TINY, *seeing)
    assert result.exit_code == 0, result.output
    policy = load_policy(tmp_path / "out", TASK)
    assert (policy.cameras, policy.image_size) == (("wrist",), 24)


@pytest.mark.slow
def test_the_loss_can_be_compiled_and_trains_the_same_weights(data: Path, tmp_path: Path) -> None:
    """In a process of its own, as the compiler cannot look through the checks of shapes that tests put in.

    What it traces runs as it is: to make machine code of it takes a minute and is not ours to test.
    """
    settings = ["--data", data, "--steps", 3, *TINY, "--max-delay", 4, "--obs-dropout", 0.2, "--out"]
    assert run(*settings, tmp_path / "plain").exit_code == 0
    program = (
        "import sys, torch; from functools import partial;"
        "torch.compile = partial(torch.compile, backend='eager');"
        "from rtc.cli import main; main(sys.argv[1:])"
    )
    process = python("-c", program, "train", *settings, tmp_path / "compiled", "--compile")
    output = process.communicate()[0]
    assert process.returncode == 0, output
    compiled = weights(tmp_path / "compiled")
    for name, value in weights(tmp_path / "plain").items():
        assert torch.allclose(compiled[name], value, atol=1e-5), name


def test_what_is_logged_is_the_curve(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    monkeypatch.setattr(train_loop, "REPORT_EVERY", 2)
    out = tmp_path / "out"
    assert run("--data", data, "--out", out, "--steps", 4, *TINY, "--tensorboard").exit_code == 0
    events = accumulators.EventAccumulator(str(out / "tensorboard")).Reload()
    logged = {event.step: event.value for event in events.Scalars("held_out")}
    curve = json.loads((out / "recipe.json").read_text())["curve"]
    assert logged == pytest.approx({point["step"]: point["held_out"] for point in curve})
    assert {"loss", "learning_rate"} <= set(events.Tags()["scalars"])


def test_weights_and_biases_gets_the_curve_too(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = pytest.importorskip("wandb.sdk.internal.datastore")
    records = pytest.importorskip("wandb.proto.wandb_internal_pb2")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setattr(train_loop, "REPORT_EVERY", 2)
    out = tmp_path / "out"
    assert run("--data", data, "--out", out, "--steps", 4, *TINY, "--wandb").exit_code == 0
    (file,) = out.glob("wandb/offline-run-*/run-*.wandb")
    scan, logged = store.DataStore(), {}
    scan.open_for_scan(str(file))
    while (message := scan.scan_data()) is not None:
        record = records.Record.FromString(message)
        if record.WhichOneof("record_type") == "history":
            values = [(item.key or item.nested_key[0], item.value_json) for item in record.history.item]
            row = {name: json.loads(text) for name, text in values}
            logged[row["_step"]] = row["held_out"]
    curve = json.loads((out / "recipe.json").read_text())["curve"]
    assert logged == pytest.approx({point["step"]: point["held_out"] for point in curve})


@pytest.mark.parametrize(
    ("flag", "module", "says"),
    [
        (
            "--tensorboard",
            "torch.utils.tensorboard.writer",
            r"tensorboard package: pip install 'rtc\[training\]'",
        ),
        ("--wandb", "wandb", "wandb package: pip install wandb"),
    ],
)
def test_a_log_that_is_not_installed_is_refused_by_name(
    flag: str, module: str, says: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    assert re.search(says, refusal(run("--data", data, "--out", tmp_path / "out", *TINY, flag)))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--device", "cuda:99"], "device 'cuda:99' cannot be used"),
        (["--device", "abacus"], "device 'abacus' cannot be used"),
        (["--max-delay", "16"], r"max_delay=16; it must be 0\.\.15"),
        (["--horizon", "99"], "chunks of 16 actions, not of 99"),
        (["--cameras", "front"], "front"),
        (["--network", "lstm"], "'lstm' is not one of 'mixer', 'transformer'"),
        (["--obs-dropout", "1"], "is not in the range 0<=x<1"),
    ],
    ids=" ".join,
)
def test_bad_input_is_one_line_and_writes_nothing(
    arguments: list[str], says: str, data: Path, tmp_path: Path
) -> None:
    assert re.search(says, refusal(run("--data", data, "--out", tmp_path / "out", *TINY, *arguments)))
    assert not (tmp_path / "out").exists()


def test_a_state_of_two_processes_is_refused_by_one(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    demonstrations, _ = read_demonstrations(data, TASK)
    policy: Callable = partial(new_policy, TASK, demonstrations, channels=16, blocks=1)
    monkeypatch.setattr("rtc.training.gather", lambda value: [value, value])
    Training(policy(), TrainingRecipe()).save(tmp_path)
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="another number of processes"):
        Training(policy(), TrainingRecipe()).resume(tmp_path)
