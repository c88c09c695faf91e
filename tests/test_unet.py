"""The U-Net: what it takes, what it is told, and that images do not meet in it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, vjp

from rtc.errors import InvalidArgument
from rtc.inverse.images.unet import UNet


def network(channels: int = 1, classes: int = 3, **settings: object) -> UNet:
    """Small, and with random weights where a fresh one has zeros."""
    torch.manual_seed(0)
    settings = {"widths": (16, 24), "depth": 1, "embedding": 16} | settings
    net = UNet(channels, classes, **settings).double().eval()  # type: ignore[arg-type]
    for name, parameter in net.named_parameters():
        if name.endswith("weight") and parameter.abs().max() == 0:
            torch.nn.init.normal_(parameter, std=0.1)
    return net.requires_grad_(False)


def images(count: int = 4, channels: int = 1, height: int = 12, width: int = 8) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, channels, height, width, generator=generator, dtype=torch.float64)


TAU = torch.tensor([0.1, 0.4, 0.6, 0.9], dtype=torch.float64)
LABEL = torch.tensor([0, 1, 2, 3])


@pytest.mark.parametrize(("channels", "height", "width"), [(1, 28, 28), (3, 32, 20), (2, 4, 8)])
def test_any_size_that_4_divides_and_any_channels_keep_their_shape(
    channels: int, height: int, width: int
) -> None:
    x = images(2, channels, height, width)
    assert network(channels)(x, TAU[:2]).shape == x.shape


@pytest.mark.parametrize("shape", [(1, 1, 14, 12), (1, 1, 12, 30), (1, 3, 12, 12)], ids=str)
def test_another_size_or_number_of_channels_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidArgument, match=r"takes 1 channel\(s\) and sides that 4 divides"):
        network()(torch.zeros(shape, dtype=torch.float64), TAU[:1])


def test_as_it_stands_it_has_two_thirds_of_a_million_parameters_and_starts_at_zero() -> None:
    net = UNet(classes=10)
    assert 600_000 < sum(parameter.numel() for parameter in net.parameters()) < 1_000_000
    assert net(torch.randn(1, 1, 28, 28), torch.tensor([0.5])).abs().max() == 0


def test_images_do_not_meet() -> None:
    net, x = network(), images()
    together = net(x, TAU, LABEL)
    alone = torch.cat([net(x[i : i + 1], TAU[i : i + 1], LABEL[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(together, alone, rtol=1e-10, atol=1e-10)
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(net(x[order], TAU[order], LABEL[order]), together[order])


def test_one_time_and_one_label_stand_for_all() -> None:
    net, x = network(), images()
    one = net(x, TAU[:1], LABEL[1:2])
    torch.testing.assert_close(one, net(x, TAU[:1].expand(4), LABEL[1:2].expand(4)))


def test_time_and_label_matter() -> None:
    net, x = network(), images(1)
    given = net(x, TAU[:1], LABEL[:1])
    for other in (net(x, TAU[:1] + 0.01, LABEL[:1]), net(x, TAU[:1], LABEL[1:2])):
        assert (other - given).abs().max() > 1e-3


def test_no_label_is_the_null_label() -> None:
    net, x = network(classes=3), images()
    assert torch.equal(net(x, TAU), net(x, TAU, torch.full((4,), 3)))


def test_a_label_without_classes_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="without classes"):
        network(classes=0)(images(), TAU, LABEL)


def test_far_pixels_meet_through_the_lower_level() -> None:
    """A change in one corner reaches the other: at half resolution alone it would not."""
    net, x = network(), images(1, height=28, width=28)
    moved = x.clone()
    moved[..., 0, 0] += 1.0
    assert (net(moved, TAU[:1]) - net(x, TAU[:1]))[..., -1, -1].abs().max() > 1e-8


def test_the_vector_jacobian_product_is_that_of_finite_differences() -> None:
    net, x = network(), images(1, height=8)
    _, pull, *_ = vjp(lambda point: net(point, TAU[:1], LABEL[:1]), x)
    cotangent, direction = images(1, height=8).flip(-1), images(1, height=8).flip(-2)
    step = 1e-6
    after, before = (net(x + way * step * direction, TAU[:1], LABEL[:1]) for way in (1, -1))
    slope = (after - before) / (2 * step)
    assert (pull(cotangent)[0] * direction).sum() == pytest.approx(float((cotangent * slope).sum()), rel=1e-6)


def test_every_parameter_gets_a_gradient() -> None:
    net = network()
    parameters = {name: value.clone().requires_grad_() for name, value in net.named_parameters()}
    functional_call(net, parameters, (images(), TAU, LABEL)).square().sum().backward()
    assert all(value.grad is not None and value.grad.abs().max() > 0 for value in parameters.values())
