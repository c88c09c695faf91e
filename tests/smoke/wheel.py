"""Try an installed wheel: `python -I wheel.py DATA_FILE...`, from outside the tree (tests/smoke/run does it).

Each step says what it shows; the first that fails ends the run with exit code 1 and one line that says why.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

SITE = Path(sysconfig.get_path("purelib"))


def data_files_are_in_the_wheel() -> None:
    """Compare what the tree holds (the arguments) with what was installed."""
    names = sys.argv[1:]
    missing = [name for name in names if not (SITE / name).is_file()]
    assert not missing, f"the wheel lacks {', '.join(missing)}: see tool.hatch.build in pyproject.toml"
    assert any(name.endswith(".safetensors") for name in names), "the tree ships no policy weights"


def rtc_comes_from_the_wheel() -> None:
    """Import it, and see that it is not some checkout that answered."""
    import rtc

    assert Path(rtc.__file__).is_relative_to(SITE), f"rtc came from {rtc.__file__}, not from {SITE}"


def the_task_steps_without_an_import_of_envs() -> None:
    """Gymnasium imports what stands before the colon; 1.0 dropped the plugins that needed no colon."""
    import gymnasium

    env = gymnasium.make("envs:rtc/ReachPastPost-v0")
    obs, _ = env.reset(seed=0)
    assert env.observation_space.contains(obs), "the first observation is outside its space"
    obs, *_ = env.step(env.action_space.sample())
    assert env.observation_space.contains(obs), "the second observation is outside its space"
    env.close()


def every_shipped_policy_samples_a_chunk() -> None:
    """One observation in, one finite chunk of actions out."""
    import torch

    import rtc
    from policies.flow import FlowPolicy

    for weights in sorted((SITE / "policies" / "weights").rglob("*.safetensors")):
        policy = FlowPolicy.from_pretrained(weights.parent).eval()
        noise = torch.randn(1, policy.horizon, policy.action_dim, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            prior = policy.condition(torch.zeros(1, policy.obs_dim))
            chunk = policy.denormalize(rtc.sample(prior, noise, num_steps=5))
        assert chunk.shape == noise.shape, f"{weights}: shape {tuple(chunk.shape)}, not {tuple(noise.shape)}"
        assert torch.isfinite(chunk).all(), f"{weights}: the chunk is not finite"


def the_shipped_digits_prior_restores_an_image() -> None:
    """A held-out digit with a hole in it, without any extra installed."""
    import torch

    import rtc
    from rtc.inverse.images.digits import digits, digits_model, held_out_digits
    from rtc.operators import Mask

    truth = held_out_digits().images[:1]
    hole = Mask.box(truth.shape[1:], 12, 12)
    measurement = rtc.LinearMeasurement(hole, hole.forward(truth), 0.01)
    prior = rtc.guide(digits(), measurement, max_weight=5.0, data_std=digits_model().data_std)
    restored = rtc.sample(prior, torch.randn(truth.shape), num_steps=5)
    assert torch.isfinite(restored).all(), "the restored digit is not finite"


def the_command_explains_itself() -> None:
    """`rtc --help` names the main job."""
    command = Path(sys.executable).parent / "rtc"
    done = subprocess.run([command, "--help"], capture_output=True, text=True)
    assert done.returncode == 0, f"rtc --help exited with {done.returncode}: {done.stderr.strip()[-300:]}"
    assert "rollout" in done.stdout, "rtc --help does not name rollout"


# In the order in which a newcomer would meet them.
STEPS = [
    data_files_are_in_the_wheel,
    rtc_comes_from_the_wheel,
    the_task_steps_without_an_import_of_envs,
    every_shipped_policy_samples_a_chunk,
    the_shipped_digits_prior_restores_an_image,
    the_command_explains_itself,
]


def main() -> None:
    """Run every step; stop at the first that fails."""
    for step in STEPS:
        claim = step.__name__.replace("_", " ")
        try:
            step()
        except Exception as error:
            sys.exit(f"smoke: {claim}: FAILED: {type(error).__name__}: {error}")
        print(f"smoke: {claim}: ok", flush=True)


if __name__ == "__main__":
    main()
