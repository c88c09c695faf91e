"""Manipulation tasks in MuJoCo where delay matters, as Gymnasium environments, with their experts.

`gymnasium.make("envs:rtc/ReachPastPost-v0")` needs no import: Gymnasium imports this module, which registers
the tasks.
"""

from __future__ import annotations

import importlib
import os

import gymnasium

CLASSES = {
    "ReachPastPost": "envs.reach_past_post:ReachPastPost",
    "Catch": "envs.catch:Catch",
    "Peg": "envs.peg:Peg",
    "Conveyor": "envs.conveyor:Conveyor",
    "SwingingBar": "envs.swinging_bar:SwingingBar",
    "Tray": "envs.tray:Tray",
}
"""Every task: the name of its ids, and where its environment is."""

TASKS = {
    f"rtc/{name}{suffix}-v0": (entry, arguments)
    for name, entry in CLASSES.items()
    for suffix, arguments in (("", {}), ("Position", {"control": "position"}))
}
"""Every Gymnasium id, with and without position control, and what its environment is built with."""


def import_mujoco() -> None:
    """Import MuJoCo also where MUJOCO_GL names a graphics backend that does not work: simulating needs none.

    MuJoCo imports that backend with itself, and fails with it. Drawing refuses it later, with the remedy.
    """
    try:
        importlib.import_module("mujoco")
    except Exception:  # missing system libraries surface as many exception types
        named = os.environ.get("MUJOCO_GL")
        if named is None:
            raise
        os.environ["MUJOCO_GL"] = "disable"
        try:
            importlib.import_module("mujoco")
        finally:
            os.environ["MUJOCO_GL"] = named


def register() -> None:
    """Register the tasks with Gymnasium; importing `envs` does it."""
    for task, (entry, arguments) in TASKS.items():
        gymnasium.register(task, entry_point=entry, kwargs=arguments)


import_mujoco()
register()
