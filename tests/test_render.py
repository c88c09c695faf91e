"""Pictures without a screen: the backend, the frame, the dots of a plan."""

# pyright: reportAttributeAccessIssue=false
# MuJoCo's names come from compiled modules that tell a type checker nothing.

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium
import mujoco
import numpy as np
import pytest

from envs.reach_past_post import ReachPastPost
from envs.render import FROZEN_COLOUR, PLANNED_COLOUR, choose_backend
from rtc.errors import InvalidArgument, RenderUnavailable

ROOT = Path(__file__).parents[1]
SIZE = (96, 128)


def need_backend() -> None:
    try:
        choose_backend()
    except RenderUnavailable as error:
        pytest.skip(str(error))


def scene(seed: int = 0, size: tuple[int, int] = SIZE) -> ReachPastPost:
    need_backend()
    env = ReachPastPost(render_mode="rgb_array", disturbances=False, image_size=size)
    env.reset(seed=seed)
    return env


def in_fresh_interpreter(program: str, **variables: str) -> subprocess.CompletedProcess[str]:
    screens = ("MUJOCO_GL", "PYOPENGL_PLATFORM", "DISPLAY", "WAYLAND_DISPLAY")
    inherited = {name: value for name, value in os.environ.items() if name not in screens}
    return subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=inherited | variables,
    )


def towards(picture: np.ndarray, colour: tuple[float, ...]) -> np.ndarray:
    """How far each pixel lies in the direction of `colour` from grey; [height, width]."""
    hue = np.array(colour[:3]) - np.mean(colour[:3])
    return (picture / 255.0) @ (hue / np.linalg.norm(hue))


def test_a_picture_is_what_gymnasium_expects() -> None:
    env = scene()
    picture = env.render()
    assert picture.shape == (*SIZE, 3)
    assert picture.dtype == np.uint8
    assert picture.flags.c_contiguous  # encoders and torch want it so
    assert picture.std() > 20  # not one colour
    env.close()


def test_a_picture_shows_the_moment() -> None:
    env = scene()
    first = env.render()
    assert np.array_equal(env.render(), first)
    for _ in range(10):
        env.step(np.array([0.0, 1.0, 0.5]))
    assert (env.render() != first).any(-1).sum() > 50
    env.close()


def test_planned_and_frozen_dots_appear_in_their_colours_where_they_belong() -> None:
    env = scene(size=(240, 320))
    plain = env.render()
    above = np.array([0.1, 0.0, 0.15])
    line = np.linspace(env.position + above, env.goal + above, 12)
    for arguments, colour in [((line, None), PLANNED_COLOUR), ((None, line), FROZEN_COLOUR)]:
        env.draw_plan(*arguments)
        drawn = env.render()
        changed = (drawn != plain).any(-1)
        assert 12 < changed.sum() < 0.1 * changed.size
        gained = towards(drawn, colour) - towards(plain, colour)
        assert gained[changed].mean() > 0.05
        assert np.abs(gained[~changed]).max() == 0
    env.draw_plan(None)
    assert np.array_equal(env.render(), plain)
    env.close()


def test_a_dot_lies_where_the_camera_sees_its_place() -> None:
    env = scene(size=(240, 320))
    env.render()
    renderer = env._renderer
    assert renderer is not None
    for place in (env.goal, env.position + np.array([0.1, 0.0, 0.15])):
        plain = towards(env.render(), MAGENTA)
        drawn = towards(sphere_of_mujoco(env, place), MAGENTA)
        rows, columns = np.nonzero(drawn - plain > 0.16)
        seen = np.mean(columns) + 0.5, np.mean(rows) + 0.5
        assert renderer._pixels(place[None])[0] == pytest.approx(seen, abs=0.8)
    env.close()


MAGENTA = (1.0, 0.0, 1.0, 1.0)


def sphere_of_mujoco(env: ReachPastPost, place: np.ndarray) -> np.ndarray:
    """The picture with a sphere that MuJoCo itself draws."""
    renderer: Any = env._renderer
    scene, picture = renderer._scene, np.empty((*env.render().shape[:2], 3), np.uint8)
    sphere = int(mujoco.mjtGeom.mjGEOM_SPHERE)
    colour = np.array(MAGENTA, np.float32)
    mujoco.mjv_initGeom(
        scene.geoms[scene.ngeom], sphere, np.full(3, 0.02), np.asarray(place), np.eye(3).ravel(), colour
    )
    scene.ngeom += 1
    mujoco.mjr_render(renderer._viewport, scene, renderer._drawing)
    mujoco.mjr_readPixels(picture, None, renderer._viewport, renderer._drawing)
    return picture[::-1]


def test_a_plan_to_stay_is_seen_in_front_of_the_hand() -> None:
    env = scene(size=(240, 320))
    env.draw_plan(np.tile(env.position, (4, 1)), np.tile(env.position, (2, 1)))
    picture = env.render()
    env.close()
    for colour in (PLANNED_COLOUR, FROZEN_COLOUR):  # the smaller frozen dot leaves a ring of the planned one
        assert (np.abs(picture - 255 * np.array(colour)).max(-1) < 2).sum() > 10


def test_a_reset_forgets_the_plan() -> None:
    env = scene()
    plain = env.render()
    env.draw_plan(np.linspace(env.position, env.goal, 8), None)
    assert not np.array_equal(env.render(), plain)
    env.reset(seed=0)
    assert np.array_equal(env.render(), plain)
    env.close()


def test_closing_or_dropping_one_renderer_leaves_the_others_whole() -> None:
    one, other = scene(0), scene(1)
    one.render()
    whole = other.render()  # whose context is now the current one
    one.close()
    assert np.array_equal(other.render(), whole)
    one.render()  # a closed env draws again
    other.render()
    del one
    assert np.array_equal(other.render(), whole)
    other.close()
    other.close()


def test_a_picture_is_drawn_in_the_made_env_too() -> None:
    env: Any = gymnasium.make("envs:rtc/ReachPastPost-v0", render_mode="rgb_array", image_size=SIZE)
    env.reset(seed=0)
    assert np.array_equal(env.render(), scene().render())
    env.close()


def test_render_without_a_render_mode_says_what_to_pass() -> None:
    env = ReachPastPost()
    env.reset(seed=0)
    with pytest.raises(InvalidArgument, match="rgb_array"):
        env.render()


@pytest.mark.parametrize("size", [(2000, 640), (480, 5000), (0, 10)])
def test_a_picture_that_the_scene_has_no_room_for_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(InvalidArgument, match=r"image_size is .* can be 1 pixel each to"):
        scene(size=size).render()


def test_the_backend_is_chosen_without_being_told_and_leaves_quietly() -> None:
    need_backend()
    program = """
import os
from envs.reach_past_post import ReachPastPost
assert "MUJOCO_GL" not in os.environ
env = ReachPastPost(render_mode="rgb_array", image_size=(32, 32))
env.reset(seed=0)
env.render()
print(os.environ["MUJOCO_GL"])
"""
    done = in_fresh_interpreter(program)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in ("egl", "osmesa")
    assert done.stderr == ""  # an env that nobody closed says nothing at the end


@pytest.mark.parametrize("named", ["nonsense", "glfw"])
def test_a_backend_that_does_not_work_is_refused_with_a_remedy_and_simulating_goes_on(named: str) -> None:
    program = """
import os
from envs.reach_past_post import ReachPastPost
from rtc.errors import RenderUnavailable
env = ReachPastPost(render_mode="rgb_array", image_size=(32, 32))
env.reset(seed=0)
env.step(env.action_space.sample())
try:
    env.render()
except RenderUnavailable as error:
    print(error)
"""
    done = in_fresh_interpreter(program, MUJOCO_GL=named)
    assert done.returncode == 0, done.stderr
    assert f"({named}: " in done.stdout
    assert "libosmesa6" in done.stdout
    assert "set MUJOCO_GL to one that works" in done.stdout
