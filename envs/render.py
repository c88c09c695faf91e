"""Pictures of a MuJoCo scene without a screen: choose a backend, draw the scene, draw plans as dots."""

# pyright: reportAttributeAccessIssue=false
# MuJoCo's names come from compiled modules that tell a type checker nothing.

from __future__ import annotations

import importlib
import os
import warnings
import weakref
from functools import cache
from typing import Any

import mujoco
import numpy as np
from jaxtyping import Float, UInt8

from rtc.errors import InvalidArgument, RenderUnavailable

PLANNED_COLOUR = (0.10, 0.45, 0.95)
FROZEN_COLOUR = (1.00, 0.55, 0.05)
RIM_COLOUR = (1.00, 1.00, 1.00)


@cache
def choose_backend() -> str:
    """The first of egl, osmesa (or the one that MUJOCO_GL names) that can draw here; MUJOCO_GL then names it.

    Raises RenderUnavailable with what failed and how to get a backend.
    """
    named = os.environ.get("MUJOCO_GL", "").strip().lower()
    reasons = []
    for backend in [named] if named else ["egl", "osmesa"]:
        try:
            _try_backend(backend)
        except Exception as error:  # missing system libraries surface as many exception types
            reasons.append(
                f"{backend}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            )
            # PyOpenGL keeps the platform of the first attempt
            if not named:
                os.environ.pop("PYOPENGL_PLATFORM", None)
        else:
            os.environ["MUJOCO_GL"] = backend
            return backend
    raise RenderUnavailable(
        f"no MuJoCo rendering backend works ({'; '.join(reasons)}); "
        "install EGL (Debian: libegl1 with a GPU driver or libgl1-mesa-dri) or OSMesa (Debian: libosmesa6), "
        "or set MUJOCO_GL to one that works"
    )


def _try_backend(backend: str) -> None:
    """Draw nothing with `backend`: glfw, for one, makes a context without a screen that then cannot draw."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # glfw's, about what the exception says too
        context = importlib.import_module(f"mujoco.{backend}").GLContext(16, 16)
        context.make_current()
        nothing = mujoco.MjModel.from_xml_string("<mujoco/>")
        mujoco.MjrContext(nothing, int(mujoco.mjtFontScale.mjFONTSCALE_100)).free()
        context.free()


class SceneRenderer:
    """Draws one model's scene, with dots for a plan; without shadows it is several times faster.

    mujoco.Renderer binds its backend when mujoco is first imported; this one can still choose afterwards.
    """

    def __init__(self, model: mujoco.MjModel, height: int, width: int, shadows: bool = True) -> None:
        largest = (model.vis.global_.offheight, model.vis.global_.offwidth)
        if not (0 < height <= largest[0] and 0 < width <= largest[1]):
            raise InvalidArgument(
                f"image_size is {(height, width)}; (height, width) can be 1 pixel each to {largest}"
            )
        self._model = model
        self._context = importlib.import_module(f"mujoco.{choose_backend()}").GLContext(width, height)
        self._context.make_current()
        self._scene = mujoco.MjvScene(model, maxgeom=1000)
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            self._scene.flags[int(flag)] &= shadows
        self._option = mujoco.MjvOption()
        self._camera = mujoco.MjvCamera()
        self._camera.type = int(mujoco.mjtCamera.mjCAMERA_FIXED)
        self._drawing = mujoco.MjrContext(model, int(mujoco.mjtFontScale.mjFONTSCALE_100))
        mujoco.mjr_setBuffer(int(mujoco.mjtFramebuffer.mjFB_OFFSCREEN), self._drawing)
        self._viewport = mujoco.MjrRect(0, 0, width, height)
        self._free = weakref.finalize(self, _free, self._context, self._drawing)
        self._free.atexit = False  # the process ends, and the backend has already left

    def draw(
        self,
        data: mujoco.MjData,
        planned: Float[np.ndarray, "k 3"] | None = None,
        frozen: Float[np.ndarray, "m 3"] | None = None,
        camera: str = "main",
    ) -> UInt8[np.ndarray, "height width 3"]:
        """One picture, with `planned` positions (metres) in blue and `frozen` ones in orange.

        They lie above whatever is before them: a plan to stay would be hidden in the hand.
        """
        self._context.make_current()
        self._camera.fixedcamid = self._model.camera(camera).id
        everything = int(mujoco.mjtCatBit.mjCAT_ALL)
        mujoco.mjv_updateScene(self._model, data, self._option, None, self._camera, everything, self._scene)
        mujoco.mjr_render(self._viewport, self._scene, self._drawing)
        image = np.empty((self._viewport.height, self._viewport.width, 3), np.uint8)
        mujoco.mjr_readPixels(image, None, self._viewport, self._drawing)
        image = image[::-1].copy()  # OpenGL's first row is the lowest
        size = image.shape[0]
        for points, colour, radius in (
            *((planned, RIM_COLOUR, 0.022 * size), (frozen, RIM_COLOUR, 0.015 * size)),
            *((planned, PLANNED_COLOUR, 0.018 * size), (frozen, FROZEN_COLOUR, 0.011 * size)),
        ):
            if points is not None and len(points):
                _dots(image, self._pixels(points), colour, radius)
        return image

    def _pixels(self, points: Float[np.ndarray, "k 3"]) -> Float[np.ndarray, "k 2"]:
        """Where on the picture (column, row) the camera sees `points`, metres."""
        left, right = self._scene.camera[0], self._scene.camera[1]
        away = np.asarray(points, np.float64) - (left.pos + right.pos) / 2
        forward, up = np.array(left.forward, np.float64), np.array(left.up, np.float64)
        depth = away @ forward
        scale = self._viewport.height * left.frustum_near / (left.frustum_top - left.frustum_bottom)
        column = self._viewport.width / 2 + scale * (away @ np.cross(forward, up)) / depth
        above = self._viewport.height * left.frustum_top / (left.frustum_top - left.frustum_bottom)
        return np.stack([column, above - scale * (away @ up) / depth], axis=1)

    def close(self) -> None:
        """Free the graphics context; dropping the last reference does it too."""
        self._free()


def _dots(
    image: UInt8[np.ndarray, "height width 3"],
    centres: Float[np.ndarray, "k 2"],
    colour: tuple[float, float, float],
    radius: float,
) -> None:
    """Paint discs of `radius` pixels, smooth at the edge; in place."""
    low = np.floor(np.clip(centres.min(0) - radius - 1.0, 0, None)).astype(int)
    high = np.ceil(np.clip(centres.max(0) + radius + 1.0, 0, None)).astype(int)
    part = image[low[1] : high[1], low[0] : high[0]]  # the rest is out of reach
    columns, rows = low[0] + np.arange(part.shape[1]) + 0.5, low[1] + np.arange(part.shape[0]) + 0.5
    far = np.hypot(columns - centres[:, :1, None], rows[:, None] - centres[:, 1:, None]).min(axis=0)
    cover = np.clip(radius + 0.5 - far, 0.0, 1.0)[..., None]
    part[:] = np.round((1.0 - cover) * part + cover * 255.0 * np.array(colour))


def _free(context: Any, drawing: mujoco.MjrContext) -> None:
    context.make_current()  # else what is freed is whatever another renderer made current
    drawing.free()
    context.free()
