"""Each operator on images, held to something that is not our code: torch's own layers, scipy, plain loops."""

from __future__ import annotations

import math

import pytest
import torch
from oracle import DOUBLE
from scipy.linalg import hadamard
from scipy.ndimage import convolve
from torch.nn.functional import avg_pool2d, interpolate

from rtc.errors import InvalidArgument, RtcError, Unsupported
from rtc.measurement import LinearMeasurement
from rtc.operators import (
    Blur,
    Compose,
    Downsample,
    Grayscale,
    Hadamard,
    Identity,
    Mask,
    Matrix,
    anisotropic,
    gaussian,
    motion,
)

IMAGES = torch.rand(2, 3, 8, 12, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
EVENT = (3, 8, 12)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_mask_keeps_what_was_seen_in_order() -> None:
    mask = IMAGES[0] > 0.5
    operator = Mask(mask)
    assert torch.equal(operator.forward(IMAGES), IMAGES[:, mask])
    assert torch.equal(operator.picture(operator.forward(IMAGES)), IMAGES * mask)


def test_values_that_were_not_seen_add_nothing_to_the_likelihood() -> None:
    operator = Mask.box(EVENT, 4, 4)
    measurement = LinearMeasurement(operator, operator.forward(IMAGES[0]), 0.25)
    count = 3 * (8 * 12 - 16)
    expected = -0.5 * count * math.log(2.0 * math.pi * 0.25)
    elsewhere = IMAGES[:1] + 5.0 * (1.0 - operator.picture(torch.ones(1, count, dtype=DOUBLE)))
    assert measurement.log_likelihood(elsewhere).item() == pytest.approx(expected, rel=1e-12)


def test_a_box_hides_its_pixels_and_no_others() -> None:
    seen = Mask.box(EVENT, 2, 3, top=1, left=4).picture(torch.ones(3 * (96 - 6), dtype=DOUBLE))
    assert not seen[:, 1:3, 4:7].any()
    assert seen.sum() == 3 * (96 - 6)
    middle = Mask.box((6, 6), 2, 4)
    assert not middle.picture(torch.ones(28))[2:4, 1:5].any()


@pytest.mark.parametrize("fraction", [0.001, 0.3, 1.0])
def test_a_random_mask_sees_its_fraction_the_same_in_each_channel(fraction: float) -> None:
    seen = Mask.random(EVENT, fraction, seeded()).adjoint
    count = max(1, round(fraction * 96))
    image = seen(torch.ones(3 * count))
    assert image.sum() == 3 * count
    assert torch.equal(image, image[:1].expand(3, -1, -1))
    values = Mask.random(EVENT, fraction, seeded(), per_channel=True)
    assert values.event_out == (max(1, round(fraction * 288)),)


def test_a_random_mask_follows_its_generator() -> None:
    first, again, other = (Mask.random(EVENT, 0.5, seeded(seed)).forward(IMAGES) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ("left", [[1, 1, 0], [1, 1, 0], [1, 1, 0]]),
        ("right", [[0, 1, 1], [0, 1, 1], [0, 1, 1]]),
        ("top", [[1, 1, 1], [1, 1, 1], [0, 0, 0]]),
        ("bottom", [[0, 0, 0], [1, 1, 1], [1, 1, 1]]),
    ],
)
def test_a_half_is_seen(seen: str, expected: list[list[int]]) -> None:
    assert Mask.half((3, 3), seen).picture(torch.ones(6)).tolist() == expected


def test_channels_can_be_masked_one_by_one() -> None:
    assert torch.equal(Mask.channels(EVENT, [2, 0]).forward(IMAGES), IMAGES[:, [0, 2]].flatten(1))


def test_average_is_average_pooling() -> None:
    for factor in (1, 2, 4):
        operator = Downsample(EVENT, factor)
        torch.testing.assert_close(operator.forward(IMAGES), avg_pool2d(IMAGES, factor), rtol=0, atol=1e-15)


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_bicubic_is_torchs_antialiased_resize(factor: int) -> None:
    ours = Downsample(EVENT, factor, "bicubic").forward(IMAGES)
    theirs = interpolate(IMAGES, scale_factor=1.0 / factor, mode="bicubic", antialias=True)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("factor", [2, 3, 4, 6])
def test_bicubic_keeps_a_flat_image_flat(factor: int) -> None:
    flat = torch.full((1, 12, 12), 0.37, dtype=DOUBLE)
    small = Downsample((1, 12, 12), factor, "bicubic").forward(flat)
    torch.testing.assert_close(small, torch.full_like(small, 0.37), rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    "kernel",
    [
        gaussian(0.8),
        motion(4.0, 30.0),
        torch.rand(3, 5, generator=seeded(1), dtype=DOUBLE),
        torch.rand(2, 4, generator=seeded(1), dtype=DOUBLE),
        torch.rand(11, 15, generator=seeded(1), dtype=DOUBLE),  # larger than the image
    ],
    ids=["gaussian", "motion", "lopsided", "even", "large"],
)
def test_blur_is_circular_convolution(kernel: torch.Tensor) -> None:
    ours = Blur(EVENT, kernel).forward(IMAGES)
    rows, columns = kernel.shape
    direct = sum(
        kernel[i, j] * IMAGES.roll((i - rows // 2, j - columns // 2), (-2, -1))
        for i in range(rows)
        for j in range(columns)
    )
    assert isinstance(direct, torch.Tensor)
    torch.testing.assert_close(ours, direct, rtol=1e-12, atol=1e-12)
    if rows % 2 and columns % 2 and rows < 8:
        scipy = convolve(IMAGES[0, 0].numpy(), kernel.numpy(), mode="wrap")
        torch.testing.assert_close(ours[0, 0], torch.from_numpy(scipy), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "kernel", [gaussian(1.5), anisotropic(2.0, 0.7, 25.0), motion(7.3, 110.0), motion(0.4, 0.0)]
)
def test_a_kernel_sums_to_one_about_its_centre(kernel: torch.Tensor) -> None:
    offset = torch.arange(len(kernel), dtype=DOUBLE) - len(kernel) // 2
    assert kernel.sum().item() == pytest.approx(1.0, abs=1e-14)
    assert kernel.min() >= 0.0
    assert (kernel.sum(1) @ offset).abs() < 1e-14
    assert (kernel.sum(0) @ offset).abs() < 1e-14


def test_an_anisotropic_kernel_has_its_variances_along_its_axes() -> None:
    kernel = anisotropic(3.0, 1.5, 30.0)
    offset = torch.arange(len(kernel), dtype=DOUBLE) - len(kernel) // 2
    up, right = -offset[:, None], offset[None, :]
    cos, sin = math.cos(math.pi / 6), math.sin(math.pi / 6)
    variances = [(kernel * axis**2).sum().item() for axis in (cos * right + sin * up, cos * up - sin * right)]
    assert variances == pytest.approx([9.0, 2.25], rel=5e-3)  # of the sampled and cut Gaussian


def test_a_motion_kernel_lies_along_its_line() -> None:
    kernel = motion(8.0, 45.0)  # anticlockwise: from the lower left to the upper right
    offset = torch.arange(len(kernel), dtype=DOUBLE) - len(kernel) // 2
    up, right = -offset[:, None], offset[None, :]
    along = (kernel * (up + right) ** 2 / 2.0).sum().item()
    across = (kernel * (up - right) ** 2 / 2.0).sum().item()
    assert along == pytest.approx(8.0**2 / 12.0, rel=0.05)  # a uniform line; sharing out adds about 1/6
    assert across < 0.2
    flat = motion(5.0, 0.0)
    torch.testing.assert_close(flat[3, 2:5], torch.full((3,), 0.2, dtype=DOUBLE), rtol=1e-3, atol=0)


def test_grayscale_weighs_the_channels() -> None:
    gray = Grayscale(EVENT).forward(IMAGES)
    expected = 0.299 * IMAGES[:, :1] + 0.587 * IMAGES[:, 1:2] + 0.114 * IMAGES[:, 2:]
    torch.testing.assert_close(gray, expected, rtol=1e-14, atol=1e-14)


def test_hadamard_rows_are_those_of_the_hadamard_matrix_with_random_signs() -> None:
    operator = Hadamard((2, 4, 4), 1.0, seeded(4))
    rows = operator.dense() * math.sqrt(32)
    signs = rows[0]  # the first Hadamard row is all ones
    torch.testing.assert_close(rows * signs, torch.from_numpy(hadamard(32)).double(), rtol=0, atol=1e-13)
    assert 0 < (signs > 0).sum() < 32


def test_hadamard_takes_the_fraction_asked_for_at_random() -> None:
    operator = Hadamard((1, 28, 28), 0.25, seeded())
    assert operator.event_out == (196,)
    torch.testing.assert_close(
        operator.forward(operator.adjoint(torch.eye(196, dtype=DOUBLE))), torch.eye(196, dtype=DOUBLE)
    )
    assert not torch.equal(operator.dense(), Hadamard((1, 28, 28), 0.25, seeded(1)).dense())


def test_row_orthogonal_operators_compose_to_one_in_closed_form() -> None:
    assert Compose(Downsample((1, 8, 12), 2), Grayscale(EVENT)).gram == pytest.approx(
        0.25 * (0.299**2 + 0.587**2 + 0.114**2)
    )
    assert Compose(Mask.box(EVENT, 2, 2), Blur(EVENT, gaussian(1.0))).gram is None


BAD: dict[str, tuple[type[RtcError], str, object]] = {
    "a mask of zeros": (InvalidArgument, "nothing is seen", lambda: Mask(torch.zeros(3, 3))),
    "a mask of halves": (InvalidArgument, "other than 0 and 1", lambda: Mask(torch.full((3, 3), 0.5))),
    "a mask of nan": (InvalidArgument, "other than 0 and 1", lambda: Mask(torch.full((3, 3), math.nan))),
    "a mask that does not fit": (
        InvalidArgument,
        r"\(3, 4\).*\(1, 3, 3\)",
        lambda: Mask(torch.ones(3, 4), (1, 3, 3)),
    ),
    "no channel": (InvalidArgument, "nothing is seen", lambda: Mask.channels(EVENT, [])),
    "a channel that is not there": (InvalidArgument, "channels 0 to 2", lambda: Mask.channels(EVENT, [3])),
    "a box too large": (InvalidArgument, "9 x 9", lambda: Mask.box(EVENT, 9, 9)),
    "a box over all": (InvalidArgument, "nothing is seen", lambda: Mask.box(EVENT, 8, 12)),
    "an empty box": (InvalidArgument, "0 x 3", lambda: Mask.box(EVENT, 0, 3)),
    "a fraction of 0": (InvalidArgument, "fraction is 0.0", lambda: Mask.random(EVENT, 0.0)),
    "a fraction of nan": (InvalidArgument, "fraction is nan", lambda: Hadamard(EVENT, math.nan)),
    "another half": (InvalidArgument, "left, right, top, bottom", lambda: Mask.half(EVENT, "upper")),
    "an image of one axis": (InvalidArgument, "height, width", lambda: Mask.half((8,))),
    "a factor that does not divide": (InvalidArgument, "8 x 12", lambda: Downsample(EVENT, 3)),
    "a factor of 0": (InvalidArgument, "factor is 0", lambda: Downsample(EVENT, 0)),
    "another filter": (InvalidArgument, "average, bicubic", lambda: Downsample(EVENT, 2, "lanczos")),
    "a kernel of zeros": (InvalidArgument, "kernel is 0", lambda: Blur(EVENT, torch.zeros(3, 3))),
    "a kernel of nan": (InvalidArgument, "not finite", lambda: Blur(EVENT, torch.full((3, 3), math.nan))),
    "a tolerance of 1": (InvalidArgument, "rank_tolerance is 1.0", lambda: Blur(EVENT, gaussian(1.0), 1.0)),
    "a width of 0": (InvalidArgument, "std_a = 0.0", lambda: gaussian(0.0)),
    "a length of -1": (InvalidArgument, "length is -1", lambda: motion(-1.0, 0.0)),
    "weights for other channels": (InvalidArgument, "3 weights", lambda: Grayscale((1, 8, 8))),
    "weights of 0": (InvalidArgument, "not all 0", lambda: Grayscale((1, 8, 8), (0.0,))),
    "an event of another size": (InvalidArgument, "4 columns", lambda: Matrix(torch.ones(2, 4), (5,))),
    "a matrix of infinities": (InvalidArgument, "not finite", lambda: Matrix(torch.full((2, 2), math.inf))),
    "operators that do not fit": (
        InvalidArgument,
        "does not take what",
        lambda: Compose(Identity((3,)), Grayscale(EVENT)),
    ),
}


@pytest.mark.parametrize("case", BAD.values(), ids=BAD)
def test_bad_input_is_refused_in_one_line(case: tuple[type[RtcError], str, object]) -> None:
    error, message, make = case
    assert callable(make)
    with pytest.raises(error, match=message) as raised:
        make()
    assert "\n" not in str(raised.value)


def test_unsupported_is_one_of_the_house() -> None:
    assert issubclass(Unsupported, RtcError)
