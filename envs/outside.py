"""Environments from outside, made fit for the runtime: any Gymnasium one whose actions are a Box.

```
gymnasium:Pendulum-v1                                       an id that Gymnasium knows, or module:id
gymnasium:gym_aloha/AlohaInsertion-v0?obs_type=pixels       arguments of the environment after a ?
metaworld:reach-v3                                          see envs/meta_world.py
```

An id's namespace is imported if it is a module. What the runtime needs to know and an environment does not
say is assumed, and `AnyTask.assumed` says so.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import parse_qsl

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch.nn import functional

from envs.meta_world import make_meta_world
from rtc.errors import InvalidArgument

CONTROL_HZ = 50.0  # assumed of an environment that does not say
TIME_LIMIT = 1000  # ticks, likewise
EXTRAS = {"metaworld": "metaworld", "gym_pusht": "pusht", "gym_aloha": "aloha"}
"""Modules that an extra of this package brings."""

Observation = np.ndarray | dict[str, np.ndarray]


class AnyTask(gymnasium.Wrapper):
    """An environment as the runtime wants it: float32 actions in a flat Box, observations of one form.

    Observation: one float32 vector, all entries but images flattened in order; with images (uint8, 3 axes) a
    dict of that vector as "state" and of each image by its name, keys of nested dicts joined by _.
    cameras: the names of the images to keep; None keeps all.
    Action: float32, clipped to the limits of the environment, and in its shape and type when it sees it.
    metadata["control_hz"]: its own, or render_fps, or 50. metadata["starvation"]: its own, or "hold".
    info["is_success"]: what the environment's is_success or success says, or else whether the return of the
    episode reached the id's reward_threshold. An episode ends with its first success, or at the time limit.

    Raises InvalidArgument for other action spaces and unknown cameras, and in `step` for an action of another
    shape or one that is not finite.
    """

    def __init__(self, env: gymnasium.Env, name: str, cameras: Sequence[str] | None = None) -> None:
        super().__init__(env)
        self.name = name
        self.assumed: list[str] = []
        """What the environment did not say, one sentence each."""
        self._native = _check_actions(env.action_space, name)
        low, high = self._native.low.ravel(), self._native.high.ravel()
        self.action_space = spaces.Box(low.astype(np.float32), high.astype(np.float32), dtype=np.float32)
        entries = dict(_entries(env.observation_space))
        self._vectors = {path: space for path, space in entries.items() if not _is_image(space)}
        images = {"_".join(path) or "image": path for path, space in entries.items() if _is_image(space)}
        self._images = images if cameras is None else _choose(images, cameras, name)
        vector = _vector_space(list(self._vectors.values()))
        pictures = {camera: entries[path] for camera, path in self._images.items()}
        self.observation_space = spaces.Dict({"state": vector, **pictures}) if pictures else vector
        self.metadata = {**env.metadata, **self._rates(env)}
        self._threshold = None if env.spec is None else env.spec.reward_threshold
        self._time_limit = self._limit(env)
        self._tick, self._return = 0, 0.0

    def _rates(self, env: gymnasium.Env) -> dict[str, Any]:
        rate = env.metadata.get("control_hz") or env.metadata.get("render_fps")
        if rate is None:
            self.assumed.append(f"{self.name} does not say its control rate: {CONTROL_HZ:g} Hz is assumed")
        return {
            "control_hz": float(rate or CONTROL_HZ),
            "starvation": env.metadata.get("starvation", "hold"),
        }

    def _limit(self, env: gymnasium.Env) -> int:
        limit = env.metadata.get("time_limit") or (env.spec and env.spec.max_episode_steps)
        if limit is None:
            self.assumed.append(f"{self.name} has no time limit: episodes are cut after {TIME_LIMIT} ticks")
        return int(limit or TIME_LIMIT)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Reset the environment."""
        obs, info = self.env.reset(seed=seed, options=options)
        self._tick, self._return = 0, 0.0
        return self._observe(obs), _readable(info) | {"is_success": False}

    def step(self, action: np.ndarray) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Advance one tick with an action [action_dim]."""
        action = np.asarray(action)
        if action.shape != self.action_space.shape or not np.isfinite(action).all():
            raise InvalidArgument(
                f"{self.name} takes {self.action_space.shape} finite numbers as an action, within "
                f"{self._native.low.min():g}..{self._native.high.max():g}; "
                f"it was given shape {action.shape}: {action}"
            )
        native = action.reshape(self._native.shape).astype(self._native.dtype)
        native = np.clip(native, self._native.low, self._native.high)
        obs, reward, terminated, truncated, info = self.env.step(native)
        self._tick, self._return = self._tick + 1, self._return + float(reward)
        truncated = bool(truncated) or self._tick >= self._time_limit
        judged = self._judge(info, over=bool(terminated) or truncated)
        ended = bool(terminated) or judged["is_success"]
        return self._observe(obs), float(reward), ended, truncated, _readable(info) | judged

    def _judge(self, info: dict[str, Any], over: bool) -> dict[str, Any]:
        for key in ("is_success", "success"):
            if key in info:
                return {"is_success": bool(np.all(info[key]))}
        if self._threshold is None:
            return {"is_success": False} | ({"failure": "nothing says what success is"} if over else {})
        return {"is_success": over and self._return >= self._threshold}

    def _observe(self, obs: Any) -> Observation:
        parts: list[Any] = [spaces.flatten(space, _at(obs, path)) for path, space in self._vectors.items()]
        state = np.concatenate([np.zeros(0, np.float32), *parts]).astype(np.float32)
        if not self._images:
            return state
        assert isinstance(self.observation_space, spaces.Dict), "there are images"
        images = {camera: np.asarray(_at(obs, path)) for camera, path in self._images.items()}
        shapes = {camera: self.observation_space[camera].shape for camera in images}
        return {"state": state} | {camera: _fit(image, shapes[camera]) for camera, image in images.items()}


def is_outside(name: str) -> bool:
    """Whether `name` begins like an environment from outside, gymnasium: or metaworld:."""
    return name.partition(":")[0] in MAKERS


def make_outside(
    name: str, *, cameras: Sequence[str] | None = None, render_mode: str | None = None
) -> AnyTask:
    """The environment that `name` (see above) means. Raises InvalidArgument, with the extra to install."""
    kind, _, rest = name.partition(":")
    identifier, _, query = rest.partition("?")
    try:
        arguments = {key: _literal(value) for key, value in parse_qsl(query, strict_parsing=bool(query))}
        if render_mode is not None:
            arguments["render_mode"] = render_mode
        env = MAKERS[kind](identifier, **arguments)
    except ModuleNotFoundError as error:
        missing = error.name or identifier.partition(":")[0]  # Gymnasium's own does not say
        extra = EXTRAS.get(missing)
        remedy = f"pip install 'rtc[{extra}]', in an environment of its own" if extra else "install it"
        raise InvalidArgument(f"{name!r} needs {missing}, which is not installed: {remedy}") from error
    except (gymnasium.error.Error, TypeError, ValueError) as error:
        raise InvalidArgument(
            f"{name!r} cannot be made ({' '.join(str(error).split())}); "
            "give gymnasium:ID or metaworld:NAME, with arguments as in ?key=value&key=value"
        ) from error
    return AnyTask(env, name, cameras)


def _make_gymnasium(identifier: str, **arguments: Any) -> gymnasium.Env:
    module = identifier.partition("/")[0] if "/" in identifier else ""
    unknown = module.isidentifier() and identifier not in gymnasium.registry
    if unknown and (module in EXTRAS or importlib.util.find_spec(module) is not None):
        importlib.import_module(module)  # registers its ids
    return gymnasium.make(identifier, disable_env_checker=True, **arguments)


MAKERS: dict[str, Callable[..., gymnasium.Env]] = {
    "gymnasium": _make_gymnasium,
    "metaworld": make_meta_world,
}
"""What stands before the colon, and who makes what stands behind it."""


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _check_actions(space: spaces.Space, name: str) -> spaces.Box:
    if not isinstance(space, spaces.Box) or not np.issubdtype(space.dtype, np.floating):
        raise InvalidArgument(
            f"{name} has the action space {space}; a Box of floats is needed, as chunks are of real numbers "
            "(many environments have a continuous version, or an argument such as ?continuous=True)"
        )
    return space


def _entries(
    space: spaces.Space, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], spaces.Space]]:
    """(path, space) of every entry of nested dicts."""
    if isinstance(space, spaces.Dict):
        for key, entry in space.items():
            yield from _entries(entry, (*path, key))
    else:
        yield path, space


def _at(obs: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        obs = obs[key]
    return obs


def _is_image(space: spaces.Space) -> bool:
    return isinstance(space, spaces.Box) and space.dtype == np.uint8 and len(space.shape) == 3


def _vector_space(entries: Sequence[spaces.Space]) -> spaces.Box:
    boxes = [spaces.flatten_space(entry) for entry in entries]
    low, high = (
        np.concatenate([np.zeros(0), *[getattr(box, side) for box in boxes]]).astype(np.float32)
        for side in ("low", "high")
    )
    return spaces.Box(low, high, dtype=np.float32)


def _choose(
    images: dict[str, tuple[str, ...]], cameras: Sequence[str], name: str
) -> dict[str, tuple[str, ...]]:
    unknown = [camera for camera in cameras if camera not in images]
    if unknown:
        raise InvalidArgument(f"{name} has no image {unknown[0]!r}; it has {', '.join(images) or 'none'}")
    return {camera: images[camera] for camera in cameras}


def _fit(image: np.ndarray, shape: tuple[int, ...] | None) -> np.ndarray:
    """`image` in the size that its space says; not all suites draw what they say (gym-aloha)."""
    if shape is None or image.shape == shape:
        return image
    pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float()
    fitted = functional.interpolate(pixels, shape[:2], mode="area")[0].permute(1, 2, 0)
    return fitted.round().to(torch.uint8).numpy()


def _readable(info: dict[str, Any]) -> dict[str, Any]:
    """`info` without what the runtime would read otherwise than it is meant: texts and 3-vectors stay."""
    kept = dict(info)
    if not isinstance(kept.get("failure"), str):
        kept.pop("failure", None)
    if np.shape(kept.get("position", ())) != (3,):
        kept.pop("position", None)
    return kept
