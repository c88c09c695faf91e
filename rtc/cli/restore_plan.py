"""What `rtc restore` is asked to do, checked before anything runs."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from rtc.cli.image_file import read_image
from rtc.errors import InvalidArgument, OutputExists, RtcError
from rtc.inverse.catalogue import named_operator
from rtc.inverse.images.digits import held_out_digits
from rtc.inverse.images.known import ImagePrior
from rtc.inverse.methods.problem import Method
from rtc.inverse.methods.table import named_method, usable
from rtc.kernel import normal
from rtc.measurement import LinearMeasurement

RESULTS = "results.json"
BUILTIN_SIDE = 128
"""Pixels of a side of the built-in photograph."""


def check_extra() -> None:
    """Raise RtcError if what reads, judges and draws images is not installed."""
    missing = [name for name in ("PIL", "matplotlib", "skimage") if find_spec(name) is None]
    if missing:
        raise RtcError(f"{', '.join(missing)} is not installed; pip install 'rtc[images]' brings it.")


def chosen_methods(
    method: str | None, methods: list[str] | None, measurement: LinearMeasurement
) -> dict[str, Method]:
    """The methods asked for, by name; "all": those that can use the measurement.

    Raises InvalidArgument for both options or an unknown name, Unsupported for one that cannot use it.
    """
    if method is not None and methods is not None:
        raise InvalidArgument("--method and --methods are both given; give one of them.")
    names = methods or [method or "pigdm"]
    names = usable(measurement) if names == ["all"] else names
    return {name: named_method(name, measurement) for name in names}


def check_folder(out: Path, force: bool) -> None:
    """Raise OutputExists for a folder that is not empty, unless it is a restoration to be replaced."""
    if out.is_file() or (out.exists() and any(out.iterdir()) and not (out / RESULTS).exists()):
        raise OutputExists(f"{out} holds something else; it is left alone: choose another --out.")
    if (out / RESULTS).exists() and not force:
        raise OutputExists(f"{out} holds a restoration; choose another --out, or replace it with --force.")


def load_truth(image: str, known: ImagePrior, seed: int) -> Tensor:
    """The image [channels, height, width] in [0, 1]; builtin: a held-out digit, or part of a photograph."""
    if image != "builtin":
        return read_image(Path(image), known.channels, known.size)
    if known.channels == 1:
        digits = held_out_digits().images
        if known.size != tuple(digits.shape[-2:]):
            raise InvalidArgument(
                "the built-in digit is 28 x 28, unlike this prior's images; give --image FILE."
            )
        return 0.5 + 0.5 * digits[seed % len(digits)]
    from skimage.data import astronaut

    top, left = 40, 160  # the face
    crop = torch.from_numpy(astronaut()[top : top + BUILTIN_SIDE, left : left + BUILTIN_SIDE].copy())
    return crop.permute(2, 0, 1).float() / 255.0


def measure(
    truth: Tensor, known: ImagePrior, operator_name: str, noise: float, seed: int
) -> LinearMeasurement:
    """A x + noise of the image on the prior's scale, on which sigma_y is larger by its range."""
    generator = Generator().manual_seed(seed)
    operator = named_operator(operator_name, tuple(truth.shape), generator)
    clean = operator.forward(known.scaled(truth)[None])
    sigma_y = noise * known.range
    return LinearMeasurement(operator, clean + sigma_y * normal(clean, generator), sigma_y**2)


def read_knobs(given: tuple[str, ...], methods: dict[str, Method]) -> dict[str, dict[str, Any]]:
    """`method.knob=value` or `knob=value` (for every method that has it), with the type of the default."""
    knobs: dict[str, dict[str, Any]] = {name: {} for name in methods}
    for item in given:
        left, equals, text = item.partition("=")
        owner, _, knob = left.rpartition(".")
        having = [name for name, method in methods.items() if knob in method.knobs and owner in ("", name)]
        if not equals or not having:
            known = ", ".join(f"{name}.{knob}" for name, method in methods.items() for knob in method.knobs)
            raise InvalidArgument(f"--knob {item} fits no method here; the knobs are: {known or 'none'}.")
        for name in having:
            kind = type(methods[name].knobs[knob])
            try:
                knobs[name][knob] = kind(text)
            except ValueError:
                raise InvalidArgument(f"--knob {item}: {text!r} is no {kind.__name__}.") from None
    return knobs
