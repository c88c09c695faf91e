"""What `import rtc` promises: the names, their documentation, and what it leaves alone."""

from __future__ import annotations

import importlib.metadata
import inspect
import subprocess
import sys

import pytest

import rtc

NAMES = [name for name in rtc.__all__ if not name.startswith("__")]


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_exists_and_is_documented(name: str) -> None:
    public = getattr(rtc, name)
    # A dataclass or protocol without a docstring would inherit or be given one: look at its own.
    own = public.__dict__.get("__doc__") if inspect.isclass(public) else public.__doc__
    assert own, f"rtc.{name} has no docstring"
    assert not own.startswith(f"{name}("), f"rtc.{name} has only the docstring that dataclass writes"


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_is_in_the_overview(name: str) -> None:
    assert rtc.__doc__
    if not inspect.isclass(getattr(rtc, name)) or not issubclass(getattr(rtc, name), rtc.RtcError):
        assert name in rtc.__doc__.replace(",", " ").split()


def test_nothing_public_is_left_out_of_all() -> None:
    found = {name for name, value in vars(rtc).items() if getattr(value, "__module__", "").startswith("rtc.")}
    assert found == set(NAMES)


def test_the_version_is_the_one_of_the_installed_distribution() -> None:
    assert rtc.__version__ == importlib.metadata.version("rtc")


def test_importing_rtc_imports_neither_simulator_nor_plots_nor_the_other_packages() -> None:
    unwanted = ["policies", "envs", "mujoco", "matplotlib", "imageio", "click"]
    program = f"import sys, rtc; print(*[name for name in {unwanted} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
