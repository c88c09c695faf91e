"""What every member of the guidance family has in common."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from oracle import DOUBLE, Counted, Matrix
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from rtc.errors import InvalidArgument
from rtc.guidance.langevin import AnnealedLangevin
from rtc.guidance.likelihood import DPS, LGD, classifier_guidance, likelihood_guidance
from rtc.guidance.pigdm import guide, pigdm, r2
from rtc.guidance.proximal import DiffPIR, Flower, ddnm, mpgd, prox
from rtc.guidance.tweedie import mmps, tmpd, tweedie
from rtc.kernel import step_kernel
from rtc.measurement import Energy, LinearMeasurement
from rtc.operators.masks import Mask
from rtc.path import STRAIGHT, VE, VP, Cosine, Path, noise_to_signal
from rtc.prior import Prior, from_denoiser, on
from rtc.solvers import DDIM, Solver

BATCH, SIZE, VALUES = 4, 6, 3
DRAW = torch.Generator().manual_seed(11)
A = torch.randn(VALUES, SIZE, generator=DRAW, dtype=DOUBLE)
Y = torch.randn(BATCH, VALUES, generator=DRAW, dtype=DOUBLE)
Z = torch.randn(BATCH, SIZE, generator=DRAW, dtype=DOUBLE)
MEASURED = LinearMeasurement(Matrix(A), Y, 0.09)
TAU, NEXT = 0.4, 0.55
PLAIN = DDIM(1.0)


class Denoiser(nn.Module):
    """A small random network (z, rho) -> x1_hat, curved in both, with a Jacobian that is not symmetric."""

    def __init__(self, counted: bool = False) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(SIZE + 1, 16), nn.Tanh(), nn.Linear(16, SIZE))
        self.counted = counted
        generator = torch.Generator().manual_seed(3)
        for parameter in self.parameters():
            parameter.data = 0.5 * torch.randn(parameter.shape, generator=generator)
        self.to(DOUBLE)

    def forward(self, x: Tensor, tau: Any) -> Tensor:
        noise = torch.as_tensor(tau, dtype=x.dtype).expand(len(x))[:, None]
        out = 0.6 * x + self.layers(torch.cat([x, noise], 1))
        if self.counted:
            counted: Any = Counted.apply(out)
            return counted
        return out


def network(counted: bool = False, trainable: bool = False) -> Prior:
    return from_denoiser(Denoiser(counted).requires_grad_(trainable), STRAIGHT)


def classifier(measured: LinearMeasurement) -> Callable[[Tensor, Any], Tensor]:
    """A log probability that knows no path: of the point in VE coordinates, on whatever path x is."""

    def log_probability(x: Tensor, tau: Any) -> Tensor:
        return -((x @ A.T - measured.y) ** 2 / (0.5 + measured.noise_variance)).sum(1)

    return log_probability


@dataclass(frozen=True)
class Member:
    """A method: what it makes of a prior, and the solver that steps; what one step costs."""

    guide: Callable[[Prior, LinearMeasurement], Prior] = lambda prior, measured: prior
    solver: Callable[[LinearMeasurement], Solver] = lambda measured: PLAIN
    forwards: int = 1
    vjps: int = 0
    measures_x: bool = False  # the point itself, in the path's own scale

    def step(self, prior: Prior, measured: LinearMeasurement, x: Tensor, tau=TAU, tau_next=NEXT, seed=5):
        generator = torch.Generator().manual_seed(seed)
        return self.solver(measured)(self.guide(prior, measured), x, tau, tau_next, generator)


def member_of(guide, vjps: int = 0, **options: Any) -> Member:
    return Member(guide=guide, vjps=vjps, **options)


FAMILY = {
    "pigdm": member_of(pigdm, 1),
    "tweedie": member_of(tweedie, VALUES + 1),
    "mmps": member_of(lambda prior, measured: mmps(prior, measured, iterations=2), 3),
    "tmpd": member_of(tmpd, 2),
    "likelihood": member_of(likelihood_guidance, 1),
    "energy": member_of(
        lambda prior, measured: likelihood_guidance(prior, Energy(lambda x1: -measured.log_likelihood(x1))), 1
    ),
    "classifier": member_of(
        lambda prior, measured: classifier_guidance(prior, classifier(measured)), measures_x=True
    ),
    "prox": member_of(lambda p, measured: prox(p, measured, lambda tau: noise_to_signal(p.path, tau) ** 2)),
    "ddnm": member_of(ddnm),
    "mpgd": member_of(lambda prior, measured: mpgd(prior, measured, step=0.2)),
    "dps": Member(solver=DPS, vjps=1, measures_x=True),
    "dps-squared": Member(solver=lambda m: DPS(m, 0.1, "squared", 0.5), vjps=1, measures_x=True),
    "lgd": Member(solver=lambda measured: LGD(measured, draws=3), vjps=1),
    "diffpir": Member(solver=DiffPIR),
    "flower": Member(solver=Flower),
    "flower-draw": Member(solver=lambda measured: Flower(measured, gamma=1.0)),
    "score-ald": Member(solver=lambda measured: AnnealedLangevin(measured, step=0.05, steps=3), forwards=3),
}

NOTHING_KNOWN = {
    name: lambda measured: replace(measured, noise_variance=1e30)
    for name in FAMILY
    if name not in ("ddnm", "mpgd", "dps", "dps-squared")
}
members = pytest.mark.parametrize("name", FAMILY)


def own(measured: LinearMeasurement, row: int) -> LinearMeasurement:
    return replace(measured, y=measured.y[[row]])


@pytest.mark.parametrize("name", NOTHING_KNOWN)
def test_infinite_noise_leaves_the_step_unguided(name: str) -> None:
    prior, nothing = network(), NOTHING_KNOWN[name](MEASURED)
    x1_hat = prior.denoise(Z, TAU)
    noise = torch.randn(Z.shape, generator=torch.Generator().manual_seed(5), dtype=DOUBLE)
    move = FAMILY[name].step(prior, nothing, Z)
    if name == "diffpir":
        eps = (Z - TAU * x1_hat) / (1.0 - TAU)
        expected = NEXT * x1_hat + (1.0 - NEXT) * (math.sqrt(0.7) * eps + math.sqrt(0.3) * noise)
    elif name == "flower":
        expected = NEXT * x1_hat + (1.0 - NEXT) * noise
    elif name == "flower-draw":
        torch.testing.assert_close(move.x1_hat, x1_hat + r2(TAU) ** 0.5 * noise, rtol=1e-9, atol=1e-9)
        return
    elif name == "score-ald":
        expected = AnnealedLangevin(step=0.05, steps=3)(
            prior, Z, TAU, NEXT, torch.Generator().manual_seed(5)
        ).x
    elif name == "lgd":  # its draws came first
        expected = step_kernel(STRAIGHT, TAU, NEXT, 0.0).apply(x1_hat, Z)
        move = LGD(nothing, eta=0.0)(prior, Z, TAU, NEXT, torch.Generator().manual_seed(5))
    else:
        kernel = step_kernel(STRAIGHT, TAU, NEXT, 1.0)
        expected = kernel.data * x1_hat + kernel.state * Z + kernel.noise * noise
    torch.testing.assert_close(move.x, expected, rtol=1e-9, atol=1e-9)


def test_weight_zero_leaves_the_step_as_it_was_to_the_bit() -> None:
    prior = network()
    free = Member().step(prior, MEASURED, Z).x
    off = [
        Member(solver=lambda measured: DPS(measured, zeta=0.0)),
        member_of(lambda prior, measured: mpgd(prior, measured, step=0.0)),
        member_of(lambda prior, measured: likelihood_guidance(prior, measured, scale=0.0)),
        member_of(lambda prior, measured: classifier_guidance(prior, classifier(measured), weight=0.0)),
    ]
    for member in off:
        assert torch.equal(member.step(prior, MEASURED, Z).x, free)


class OneNoise(TorchFunctionMode):
    """The k-th draw is the same for every element of a batch, whatever the size of the batch."""

    count = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is not torch.randn:
            return func(*args, **(kwargs or {}))
        self.count += 1
        event = torch.empty(args[0][1:], dtype=DOUBLE)
        return event.normal_(generator=torch.Generator().manual_seed(self.count)).expand(args[0]).clone()


@members
def test_an_element_does_not_depend_on_the_others_of_its_batch(name: str) -> None:
    prior = network()
    with OneNoise():
        together = FAMILY[name].step(prior, MEASURED, Z).x
    for row in range(BATCH):
        with OneNoise():
            alone = FAMILY[name].step(prior, own(MEASURED, row), Z[[row]]).x
        torch.testing.assert_close(alone[0], together[row], rtol=1e-12, atol=1e-12)


@members
def test_an_element_that_is_not_finite_spoils_no_other(name: str) -> None:
    prior, spoilt = network(), Z.clone()
    spoilt[1] = math.nan
    out, clean = FAMILY[name].step(prior, MEASURED, spoilt).x, FAMILY[name].step(prior, MEASURED, Z).x
    assert out[1].isnan().any()
    torch.testing.assert_close(out[[0, 2, 3]], clean[[0, 2, 3]], rtol=1e-12, atol=1e-12)


@members
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_no_graph_is_left_and_no_parameter_touched(name: str, mode) -> None:
    prior = network(trainable=True)
    with mode():
        move = FAMILY[name].step(prior, MEASURED, Z)
    for value in (move.x, move.x1_hat):
        assert (value.grad_fn, value.requires_grad) == (None, False)
    for parameter in prior.function.parameters():  # type: ignore[attr-defined]
        assert parameter.grad is None


@members
def test_a_step_costs_what_is_written(name: str) -> None:
    prior, member = network(counted=True), FAMILY[name]
    Counted.clear()
    member.step(prior, MEASURED, Z)
    assert (Counted.forwards, Counted.vjps) == (member.forwards, member.vjps)


PATHS: dict[str, Path] = {"vp": VP(), "cosine": Cosine(), "ve": VE(50.0, 0.01)}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", [name for name in FAMILY if not FAMILY[name].measures_x])
def test_on_every_path_an_equally_noisy_step_is_the_same(name: str, path: str) -> None:
    along, member, base = PATHS[path], FAMILY[name], network()
    rho, rho_next = noise_to_signal(STRAIGHT, TAU), noise_to_signal(STRAIGHT, NEXT)
    tau, tau_next = float(along.tau_at(rho)), float(along.tau_at(rho_next))
    here = member.step(base, MEASURED, TAU * Z)
    there = member.step(on(base, along), MEASURED, along.alpha(tau) * Z, tau, tau_next)
    torch.testing.assert_close(there.x1_hat, here.x1_hat, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(there.x / along.alpha(tau_next), here.x / NEXT, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("path", PATHS)
def test_the_step_of_dps_is_measured_in_the_units_of_its_path(path: str) -> None:
    along, base = PATHS[path], network()
    rho, rho_next = noise_to_signal(STRAIGHT, TAU), noise_to_signal(STRAIGHT, NEXT)

    def shift(prior: Prior, alpha: float, tau: float, tau_next: float) -> Tensor:
        x = alpha * Z
        guided, free = (DPS(MEASURED, zeta, eta=0.0)(prior, x, tau, tau_next).x for zeta in (1.0, 0.0))
        return alpha * (guided - free)

    tau, tau_next = float(along.tau_at(rho)), float(along.tau_at(rho_next))
    here = shift(base, TAU, TAU, NEXT)
    there = shift(on(base, along), float(along.alpha(tau)), tau, tau_next)
    # Equal but for alpha: in data units the same zeta is 1 / (alpha alpha_next) long, another on each path.
    torch.testing.assert_close(there, here, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["pigdm", "tweedie", "mmps", "tmpd", "likelihood"])
def test_at_tau_zero_nothing_is_added_and_nothing_is_infinite(name: str) -> None:
    prior = network()
    guided = FAMILY[name].guide(prior, MEASURED)
    assert torch.equal(guided.denoise(Z, 0.0), prior.denoise(Z, 0.0))


@pytest.mark.parametrize("name", ["tweedie", "mmps", "tmpd", "likelihood", "classifier", "mpgd"])
def test_a_time_for_each_element_guides_each_at_its_time(name: str) -> None:
    guided = FAMILY[name].guide(network(), MEASURED)
    times = torch.tensor([0.0, 0.2, 0.6, 0.95], dtype=DOUBLE)
    together = guided.denoise(Z, times)
    for row, tau in enumerate(times):
        alone = FAMILY[name].guide(network(), own(MEASURED, row)).denoise(Z[[row]], float(tau))
        torch.testing.assert_close(alone[0], together[row], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["tweedie", "mmps", "tmpd", "likelihood", "classifier", "prox", "mpgd"])
def test_a_guided_prior_can_be_guided_again(name: str) -> None:
    inner = FAMILY[name].guide(network(), MEASURED)
    other = LinearMeasurement(Matrix(A.flip(0)), Y.flip(0), 0.3)
    direction = torch.randn(Z.shape, generator=torch.Generator().manual_seed(7), dtype=DOUBLE)
    cotangent, step = other.pull(inner.denoise(Z, TAU), r2(TAU)), 1e-6
    slope = (inner.denoise(Z + step * direction, TAU) - inner.denoise(Z - step * direction, TAU)) / (2 * step)
    correction = pigdm(inner, other).denoise(Z, TAU) - inner.denoise(Z, TAU)
    gain = (1.0 - TAU) ** 2 / (TAU * r2(TAU))
    assert float((correction * direction).sum()) == pytest.approx(
        gain * float((slope * cotangent).sum()), rel=1e-5
    )


@pytest.mark.parametrize("name", [name for name in FAMILY if name != "classifier"])
def test_single_precision_stays_single(name: str) -> None:
    prior = from_denoiser(lambda x, tau: torch.tanh(x) * 0.8)
    single = LinearMeasurement(Matrix(A.float()), Y.float(), 0.09)
    move = FAMILY[name].step(prior, single, Z.float())
    assert (move.x.dtype, move.x1_hat.dtype) == (torch.float32, torch.float32)
    assert move.x.isfinite().all()


@pytest.mark.parametrize("name", [name for name in FAMILY if name != "classifier"])
def test_an_operator_on_images_acts_as_its_matrix_does(name: str) -> None:
    flat = network()
    images = from_denoiser(lambda x, tau: flat.denoise(x.flatten(1), tau).reshape(x.shape))
    mask = Mask(torch.tensor([[[1, 0, 1], [0, 0, 1]]]))
    seen = LinearMeasurement(mask, Y, 0.09)
    dense = LinearMeasurement(Matrix(mask.dense()), Y, 0.09)
    by_image = FAMILY[name].step(images, seen, Z.reshape(BATCH, 1, 2, 3)).x
    by_matrix = FAMILY[name].step(flat, dense, Z).x
    torch.testing.assert_close(by_image.flatten(1), by_matrix, rtol=1e-12, atol=1e-12)


def test_pigdm_is_the_guidance_of_robots_with_nothing_clipped() -> None:
    prior = network()
    expected = guide(prior, MEASURED, max_weight=math.inf, data_std=0.7).denoise(Z, TAU)
    assert torch.equal(pigdm(prior, MEASURED, data_std=0.7).denoise(Z, TAU), expected)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: likelihood_guidance(network(), replace(MEASURED, noise_variance=0.0)), "guide with pigdm"),
        (lambda: LGD(replace(MEASURED, noise_variance=0.0)), "guide with pigdm"),
        (lambda: LGD(MEASURED, draws=0), "draws is 0"),
        (lambda: LGD(MEASURED, data_std=0.0), "data_std is 0"),
        (lambda: mmps(network(), MEASURED, iterations=0), "iterations is 0"),
        (lambda: mmps(network(), replace(MEASURED, noise_variance=math.inf)), "infinite"),
        (lambda: tweedie(network(), replace(MEASURED, noise_variance=math.inf)), "infinite"),
        (lambda: DPS(MEASURED, zeta=-1.0), "zeta is -1"),
        (lambda: DPS(MEASURED, misfit="l1"), "choose one of norm, squared"),
        (lambda: mpgd(network(), MEASURED, step=math.nan), "step is nan"),
        (lambda: mpgd(network(), MEASURED, step=0.1, misfit=""), "choose one of norm, squared"),
        (lambda: DiffPIR(MEASURED, lam=0.0), "lam is 0"),
        (lambda: DiffPIR(MEASURED, zeta=1.5), "zeta is 1.5"),
        (lambda: Flower(MEASURED, data_std=-1.0), "data_std is -1"),
        (lambda: Flower(MEASURED, gamma=2.0), "gamma is 2"),
        (lambda: AnnealedLangevin(MEASURED, step=0.0), "step is 0"),
        (lambda: AnnealedLangevin(MEASURED, steps=0), "steps is 0"),
        (lambda: AnnealedLangevin()(network(), Z, 0.0, 0.1), "start later"),
        (lambda: pigdm(network(), MEASURED, data_std=0.0), "data_std is 0"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_remedy(make: Callable[[], object], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        make()
