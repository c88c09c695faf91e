"""`rtc rollout` from outside, on the real task with an untrained policy: files, refusals, interruption."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

from policies.checkpoint import load_policy
from policies.flow import FlowPolicy
from rtc.cli import main
from rtc.cli.build import execution_horizon
from rtc.cli.rollout import telling_seed
from rtc.errors import CheckpointError, InvalidArgument, RenderUnavailable
from rtc.runtime.strategies import make_strategy

TASK = "ReachPastPost-v0"
ROOT = Path(__file__).parents[1]


def save_policy(folder: Path, task: str = TASK, **settings: Any) -> Path:
    """A policy that knows nothing and pushes towards the post, so that its episodes are short."""
    torch.manual_seed(0)
    policy = FlowPolicy(task, obs_dim=18, action_dim=3, channels=16, blocks=1, **settings)
    policy.action_mean.copy_(torch.tensor([0.0, 0.7, 0.0]))
    policy.action_std.fill_(0.1)
    policy.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_policy(tmp_path_factory.mktemp("policy"))


def arguments(checkpoint: Path, out: Path, *more: str) -> list[str]:
    common = ["rollout", "--policy", str(checkpoint), "--out", str(out), "--workers", "1"]
    return [*common, "--delays", "0,2", "--seed", "1", "--episodes", "2", "--batch", "1", *more]


def call(*words: str) -> Result:
    return CliRunner().invoke(main, words, prog_name="rtc")


def timeless(out: Path) -> dict[str, Any]:
    """results.json without what may differ between two runs that agree."""
    document = json.loads((out / "results.json").read_text())
    return {name: value for name, value in document.items() if name not in ("timing", "arguments")}


def one_line(result: Result) -> str:
    """The refusal: one line, exit code 2, nothing on stdout."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("rtc: error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


@pytest.fixture(scope="module")
def finished(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """The run that the tests below look at; it also draws, where this machine can."""
    out = tmp_path_factory.mktemp("run") / "out"
    return out, call(*arguments(checkpoint, out))


def test_a_run_prints_its_table_and_writes_its_files(finished: tuple[Path, Result]) -> None:
    out, result = finished
    assert result.exit_code == 0, result.output
    for strategy in ("synchronous", "naive", "realtime"):
        assert result.stdout.count(f"\n {strategy} ") == 2  # one row a delay
    assert "At d = 2 ticks (40 ms) naive" in result.stdout
    assert "control steps in" in result.stdout
    written = {path.name for path in out.iterdir()}
    assert {"run.json", "results.json", "plot.png"} <= written
    assert not any(name.startswith((".", "cells")) for name in written)


def test_the_results_hold_every_episode_on_the_same_seeds(finished: tuple[Path, Result]) -> None:
    document = json.loads((finished[0] / "results.json").read_text())
    assert document["seeds"] == [1, 2]
    assert document["arguments"]["delays"] == [0, 2]
    assert {"rtc", "torch", "mujoco", "python"} <= set(document["settings"]["versions"])
    assert [(cell["strategy"], cell["delay"]) for cell in document["cells"]] == [
        (strategy, delay) for strategy in ("synchronous", "naive", "realtime", "auto") for delay in (0, 2)
    ]
    for cell in document["cells"]:
        assert [episode["seed"] for episode in cell["episodes"]] == [1, 2]
        assert set(cell["summary"]["success"]) == {"value", "low", "high"}
        assert all(delay == cell["delay"] for episode in cell["episodes"] for delay in episode["delays"])
    timing = document["timing"]
    assert timing["control_steps"] == sum(
        episode["ticks"] for cell in document["cells"] for episode in cell["episodes"]
    )
    assert all(timing[f"{part}_seconds"] > 0 for part in ("physics", "network", "other"))


def test_the_film_is_of_the_measured_episode(finished: tuple[Path, Result]) -> None:
    from envs.render import choose_backend

    try:
        backend = choose_backend()
    except RenderUnavailable:
        pytest.skip("no rendering backend here")
    out, result = finished
    document = json.loads((out / "results.json").read_text())
    failure = document["cells"][1]["episodes"][0]["failure"]
    assert f"seed 1 at d = 2 (synchronous: {failure}," in result.stdout
    assert f"drawn with {backend}" in result.stdout
    assert (out / "video.mp4").stat().st_size > 10_000
    width, height = Image.open(out / "frames.png").size
    assert width > 5 * 320
    assert height > 3 * 240


def test_a_finished_run_is_refused_and_replaced_by_force(
    finished: tuple[Path, Result], checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished[0], out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert "--force" in one_line(call(*arguments(checkpoint, out)))
    bad = call(*arguments(checkpoint, out, "--force", "--task", "Nothing-v0"))
    assert TASK in one_line(bad)  # validated before anything is removed
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    forced = call(*arguments(checkpoint, out, "--force", "--no-video", "--json"))
    assert forced.exit_code == 0
    assert timeless(out) == timeless(finished[0])
    assert not (out / "video.mp4").exists()


def test_json_is_all_that_stdout_holds(checkpoint: Path, tmp_path: Path) -> None:
    narrow = ("--strategies", "naive", "--no-video", "--json", "--task", f"rtc/{TASK}")
    result = call(*arguments(checkpoint, tmp_path / "out", *narrow))
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert "episodes" not in document["cells"][0]
    assert document["cells"][0]["summary"]["episodes"] == 2
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--task", "Reach-v7"], [TASK, "ReachPastPostPosition-v0"]),
        (
            ["--strategies", "naive,psychic"],
            ["psychic", "synchronous, naive, ensemble, blend, bid", "oracle"],
        ),
        (["--strategies", "naive,,realtime"], ["no list of names"]),
        (["--delays", "0,9"], ["d <= s <= H - d", "H = 16", "d <= 8"]),
        (["--delays", "6", "--execution-horizon", "12"], ["d <= s <= H - d", "s <= 10"]),
        (["--execution-horizon", "17"], ["1 <= s <= 16"]),
        (["--execution-horizon", "0", "--strategies", "synchronous"], ["1 <= s <= 16"]),
        (["--execution-horizon", "soon"], ["H/4", "max(d,1)"]),
        (["--delays", "-1,2"], ["negative"]),
        (["--delays", "now"], ["whole numbers"]),
        (["--episodes", "0"], ["--episodes", "x>=1"]),
        (["--mask-end", "17"], ["0..16"]),
        (["--max-weight", "-1"], ["steps"]),
        (["--max-weight", "nan"], ["steps"]),
        (["--video-seed", "0"], ["1..2"]),
        (["--policy", "/nowhere"], ["/nowhere", "rtc train"]),
        (["--nonsense"], ["--nonsense"]),
    ],
)
def test_bad_input_gets_one_line_and_writes_nothing(
    checkpoint: Path, tmp_path: Path, words: list[str], expected: list[str]
) -> None:
    line = one_line(call(*arguments(checkpoint, tmp_path / "out", *words)))
    for text in expected:
        assert text in line
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_of_another_task_is_refused(tmp_path: Path) -> None:
    other = save_policy(tmp_path / "other", "rtc/ReachPastPostPosition-v0")
    line = one_line(call(*arguments(other, tmp_path / "out")))
    assert "trained for ReachPastPostPosition-v0, not for ReachPastPost-v0" in line
    assert load_policy(other, "ReachPastPostPosition-v0").horizon == 16


def test_a_checkpoint_that_does_not_fit_the_spaces_is_refused(tmp_path: Path) -> None:
    FlowPolicy(TASK, obs_dim=5, action_dim=3, channels=16, blocks=1).save_pretrained(tmp_path / "old")
    assert "5 numbers" in one_line(call(*arguments(tmp_path / "old", tmp_path / "out")))


def damage(folder: Path, how: str) -> None:
    """Break one file of a checkpoint."""
    weights, config = folder / "model.safetensors", folder / "config.json"
    if how == "truncated":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif how == "no header":
        weights.write_bytes(b"\x00" * 4)
    elif how == "no weights":
        weights.unlink()
    elif how == "no config":
        config.unlink()
    elif how == "half a config":
        config.write_text(config.read_text()[:20])
    elif how == "foreign config":
        config.write_text('{"model_type": "bert"}')
    elif how == "other sizes":
        config.write_text(config.read_text().replace('"channels": 16', '"channels": 32'))
    elif how == "not finite":
        policy = load_policy(folder)
        policy.network.action_out.bias.fill_(torch.nan)
        policy.save_pretrained(folder)


@pytest.mark.parametrize(
    ("how", "file", "remedy"),
    [
        ("truncated", "model.safetensors", "copy it again"),
        ("no header", "model.safetensors", "copy it again"),
        ("no weights", "model.safetensors", "missing"),
        ("no config", "config.json", "missing"),
        ("half a config", "config.json", "copy it again"),
        ("foreign config", "config.json", "does not say task"),
        ("other sizes", "config.json", "same checkpoint"),
        ("not finite", "model.safetensors", "network.action_out.bias"),
    ],
)
def test_a_damaged_checkpoint_names_its_file_and_the_remedy(
    checkpoint: Path, tmp_path: Path, how: str, file: str, remedy: str
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(checkpoint, broken)
    damage(broken, how)
    with pytest.raises(CheckpointError, match=remedy):
        load_policy(broken, TASK)
    line = one_line(call(*arguments(broken, tmp_path / "out")))
    assert str(broken / file) in line
    assert not (tmp_path / "out").exists()


def test_the_execution_horizon_follows_its_rule(checkpoint: Path) -> None:
    policy = load_policy(checkpoint)
    moving, waiting = make_strategy("naive", policy), make_strategy("synchronous", policy)
    cases = [
        ("max(d,1)", 0, 1),
        ("max(d,1)", 6, 6),
        ("max(d, 3)", 2, 3),
        ("H/4", 2, 4),
        ("H/2", 8, 8),
        ("5", 3, 5),
    ]
    for rule, delay, rows in cases:
        assert execution_horizon(rule, moving, delay) == execution_horizon(rule, waiting, delay) == rows
    assert execution_horizon("2", moving, 5) == 5  # one inference at a time
    assert execution_horizon("2", waiting, 5) == 2
    assert execution_horizon("16", waiting, 30) == 16  # it stands still for as long as it takes
    for rule in ("", "H/0", "max(d,1", "4)", "-4", "H/3.5", "max(d,)"):
        with pytest.raises(InvalidArgument):
            execution_horizon(rule, moving, 0)


def start(checkpoint: Path, out: Path, *more: str, **environment: str) -> subprocess.Popen[str]:
    """The command in a process of its own, in a process group of its own."""
    command = [sys.executable, "-m", "rtc.cli", *arguments(checkpoint, out, *more)]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        # what runs in the background of a shell inherits that Ctrl-C is ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def wait_for(folder: Path, count: int) -> None:
    limit = monotonic() + 120
    while len(list(folder.glob("[!.]*.json"))) < count:
        assert monotonic() < limit, f"{folder} never held {count} files"
        sleep(0.01)


LONGER = ("--no-video", "--episodes", "12", "--strategies", "naive,realtime", "--delays", "6")


@pytest.fixture(scope="module")
def uninterrupted(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "out"
    assert call(*arguments(checkpoint, out, *LONGER)).exit_code == 0
    return out


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_run_resumes_to_the_same_results(
    checkpoint: Path, uninterrupted: Path, tmp_path: Path, how: signal.Signals
) -> None:
    process = start(checkpoint, tmp_path / "out", *LONGER, "--workers", "2")
    wait_for(tmp_path / "out" / "cells", 2)
    if how is signal.SIGINT:
        os.killpg(process.pid, how)  # as a terminal does: the workers get it too
    else:
        process.send_signal(how)  # the parent alone: its workers must notice
    stdout, stderr = process.communicate(timeout=60)  # ends when the workers, too, have let go of the pipes
    assert stdout == "", stderr
    kept = len(list((tmp_path / "out" / "cells").glob("[!.]*.json")))
    assert 2 <= kept < 24
    assert not (tmp_path / "out" / "results.json").exists()
    if how is signal.SIGINT:
        assert process.returncode == 130
        assert f"{kept} of 24 parts are kept" in stderr
        assert "Traceback" not in stderr
    other = call(*arguments(checkpoint, tmp_path / "out", *LONGER, "--seed", "2"))
    assert "seed: 1 then, 2 now" in one_line(other)
    again = call(*arguments(checkpoint, tmp_path / "out", *LONGER))
    assert again.exit_code == 0, again.output
    timing = json.loads((tmp_path / "out" / "results.json").read_text())["timing"]
    assert timing["shards_resumed"] == kept
    assert timeless(tmp_path / "out") == timeless(uninterrupted)


def test_without_a_rendering_backend_the_run_goes_on(checkpoint: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "rtc.cli",
        *arguments(checkpoint, tmp_path / "out", "--strategies", "naive"),
    ]
    result = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"MUJOCO_GL": "off"}, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr.startswith("rtc: no video: RenderUnavailable: ")
    assert result.stderr.count("\n") == 1
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"run.json", "results.json", "plot.png"}


def test_without_the_report_extra_the_run_goes_on(checkpoint: Path, tmp_path: Path) -> None:
    script = (
        "import sys; sys.modules.update(matplotlib=None, imageio=None, PIL=None)\n"
        "from rtc.cli import main; main(sys.argv[1:], prog_name='rtc')"
    )
    words = arguments(checkpoint, tmp_path / "out", "--strategies", "naive", "--delays", "1")
    result = subprocess.run(
        [sys.executable, "-c", script, *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    lines = result.stderr.splitlines()
    assert [line[:14] for line in lines] == ["rtc: no plot: ", "rtc: no video:"]
    assert all("rtc[report]" in line for line in lines)
    assert (tmp_path / "out" / "results.json").exists()


def test_help_explains_every_flag() -> None:
    result = call("rollout", "-h")
    assert result.exit_code == 0
    for parameter in main.commands["rollout"].params:
        assert parameter.opts[0] in result.stdout
        assert getattr(parameter, "help", ""), parameter.opts
    assert "ticks of 20" in " ".join(result.stdout.split())


def test_the_film_shows_the_first_seed_on_which_the_strategies_differ() -> None:
    def records(*successes: str) -> dict[tuple[str, int], list[dict[str, Any]]]:
        return {
            (str(index), 4): [{"seed": 7 + seed, "success": mark == "1"} for seed, mark in enumerate(marks)]
            for index, marks in enumerate(successes)
        }

    assert telling_seed(records("0011", "0001"), 4) == 9
    assert telling_seed(records("0011", "0011"), 4) == 7
