"""What made a result: versions, machine, commit."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

from rtc import __version__

PACKAGES = ("gymnasium", "mujoco", "numpy", "scipy", "torch")


def versions() -> dict[str, str]:
    """The version of rtc, of Python, and of the packages that numbers depend on."""
    return {
        "rtc": __version__,
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in PACKAGES},
    }


def available_cores() -> int:
    """The cores that this process may use, at least 1."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def machine() -> dict[str, str | int]:
    """Processor, cores that may be used, operating system."""
    return {"processor": _processor(), "cores": available_cores(), "platform": platform.platform()}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def commit() -> str | None:
    """The git commit of the checkout that rtc runs from, "+" if files differ from it; None without one."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None  # installed: a repository around it, if any, is another project's
    try:
        head = _git(root, "rev-parse", "HEAD")
        return head + ("+" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
