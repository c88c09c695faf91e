"""Particle methods, held to golden single steps, exact evidences and exact posteriors."""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest
import torch
from oracle import DOUBLE, golden, relative_error, tensor
from torch import Generator, Tensor

from rtc.errors import InvalidArgument, Unsupported
from rtc.exact import GaussianPrior, MixturePrior
from rtc.inverse.particles import Particles, bootstrap, fps, importance_sampling, mcgdiff, tds
from rtc.inverse.particles.filtering import ObservedFilter, renewed
from rtc.inverse.particles.mcgdiff import PinnedFilter, pinned
from rtc.inverse.particles.resampling import effective_sample_size, systematic
from rtc.inverse.particles.smc import Level, Options, run_filter
from rtc.inverse.particles.twisted import TwistedFilter
from rtc.inverse.particles.twists import log_normal, make_twist
from rtc.inverse.spectral import spectrum
from rtc.kernel import step_kernel
from rtc.measurement import Energy, LinearMeasurement
from rtc.operators.dense import Matrix
from rtc.operators.function import from_function
from rtc.path import STRAIGHT, VE, VP, Cosine, Time
from rtc.prior import from_denoiser
from rtc.sample import uniform_times
from rtc.table import Table

STEPS = golden("particles")
MIXTURE = golden("mixture")["isotropic_2d"]
EVIDENCE = MIXTURE["log_evidence"]


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def mixture(path: Any = None) -> MixturePrior:
    """The two-dimensional mixture of the golden file."""
    return MixturePrior(tensor(MIXTURE["weights"]), tensor(MIXTURE["means"]), 1.0, path or Cosine())


def observed(noise_variance: float | Tensor = MIXTURE["sigma_y"] ** 2) -> LinearMeasurement:
    return LinearMeasurement(Matrix(tensor(MIXTURE["A"])), tensor(MIXTURE["y"]), noise_variance)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Callable[[Tensor], None]:
    """Make the next `normal` of every filter the given noise."""

    def give(noise: Tensor) -> None:
        for name in ("twisted", "mcgdiff"):
            module = import_module(f"rtc.inverse.particles.{name}")  # a function has its name in the package
            monkeypatch.setattr(module, "normal", lambda like, generator: noise)

    return give


# --- resampling


@pytest.mark.parametrize("case", STEPS["resampling"])
def test_systematic_resampling_is_the_reference(case: dict[str, Any]) -> None:
    weights = tensor(case["weights"])
    assert systematic(weights, case["u"]).tolist() == case["systematic"]
    assert effective_sample_size(weights.log()) == pytest.approx(case["ess"], rel=1e-12)
    assert effective_sample_size(weights.log() - 1000.0) == pytest.approx(case["ess"], rel=1e-9)


def test_a_particle_is_taken_as_often_as_its_weight_says() -> None:
    weights = tensor([0.0, 0.1, 0.6, 0.0, 0.3])
    counts = torch.stack([systematic(weights, u, 40).bincount(minlength=5) for u in (1e-9, 0.3, 0.99, 1.0)])
    assert ((counts - 40 * weights).abs() <= 1.0).all()
    assert (counts[:, [0, 3]] == 0).all()


def test_a_draw_has_the_weights_of_the_particles() -> None:
    particles = Particles(torch.arange(3.0)[:, None], tensor([0.2, 0.5, 0.3]).log(), 0.0, [])
    values = particles.draw(1000, seeded())[:, 0].long()
    assert values.bincount().tolist() == pytest.approx([200, 500, 300], abs=1)
    assert values.tolist() != sorted(values.tolist())
    assert particles.mean().item() == pytest.approx(1.1)


# --- golden steps


def test_a_twisted_step_is_the_reference(drawn: Callable[[Tensor], None]) -> None:
    case = STEPS["tds"]
    stack = lambda name: tensor([particle[name] for particle in case["particles"]])  # noqa: E731
    prior = mixture()
    twist = make_twist("tweedie", observed(), prior.path, 1.0)
    method = TwistedFilter(prior, observed(), twist, True, None)
    levels = [
        Level(step, tau, tau_next, step_kernel(prior.path, tau, tau_next, case["eta"]))
        for step, (tau, tau_next) in enumerate([(case["tau"], case["tau_next"]), (case["tau_next"], 1.0)])
    ]
    drawn(stack("noise"))
    carried, increment = method.weigh(stack("x"), 0.0, levels[0])
    assert relative_error(increment, stack("log_twist")) < 1e-9
    x_next, owed = method.move(carried, levels[0], None)
    assert relative_error(x_next, stack("x_next")) < 1e-9
    carried, increment = method.weigh(x_next, owed, levels[1])
    assert relative_error(carried.log_psi, stack("log_twist_next")) < 1e-9
    assert relative_error(increment, stack("log_weight_increment")) < 1e-9


def test_a_filtering_step_is_the_reference(drawn: Callable[[Tensor], None]) -> None:
    case = STEPS["fps"]
    a, x, x1_hat = (tensor(case[name]) for name in ("A", "x_t", "x1hat"))
    alpha, sigma, alpha_next, sigma_next = (
        case[f"{name}_{at}"] for at in "ts" for name in ("alpha", "sigma")
    )
    c, y = case["c"], tensor(case["y"])
    path = Table((sigma / alpha, sigma_next / alpha_next, 0.0))
    noise = renewed((tensor(case["y_t"]) - alpha * y) / sigma, a @ tensor(case["noise_y"]), c)
    y_next = alpha_next * y + sigma_next * noise
    assert relative_error(y_next, tensor(case["y_s"])) < 1e-9

    measurement = LinearMeasurement(Matrix(a), y, case["sigma_y"] ** 2)
    prior = from_denoiser(lambda x, tau: x1_hat.expand_as(x), path)
    method = ObservedFilter(prior, measurement, Matrix(a), [y, y_next], c, None)
    level = Level(0, 0.0, 0.5, step_kernel(path, 0.0, 0.5))
    carried, increment = method.weigh(x[None], 0.0, level)
    assert relative_error(carried.ahead[0], tensor(case["prior_step_mean"])) < 1e-9
    variance = c * sigma_next**2 * a @ a.T + (alpha_next * case["sigma_y"]) ** 2 * torch.eye(2)
    constant = -0.5 * torch.logdet(2.0 * math.pi * variance).item()
    assert increment.item() + constant == pytest.approx(case["log_weight"], rel=1e-9)


def test_a_filtering_step_draws_from_the_reference_law() -> None:
    case = STEPS["fps"]
    a, x1_hat = tensor(case["A"]), tensor(case["x1hat"])
    path = Table((case["sigma_t"] / case["alpha_t"], case["sigma_s"] / case["alpha_s"], 0.0))
    measurement = LinearMeasurement(Matrix(a), tensor(case["y"]), case["sigma_y"] ** 2)
    prior = from_denoiser(lambda x, tau: x1_hat.expand_as(x), path)
    observations = [tensor(case["y_t"]), tensor(case["y_s"])]
    method = ObservedFilter(prior, measurement, Matrix(a), observations, case["c"], None)
    level = Level(0, 0.0, 0.5, step_kernel(path, 0.0, 0.5))
    carried, _ = method.weigh(tensor(case["x_t"]).expand(200_000, 3), 0.0, level)
    x_next, _ = method.move(carried, level, seeded())
    assert relative_error(x_next.mean(0), tensor(case["mean"])) < 5e-3
    assert relative_error(x_next.T.cov(), tensor(case["cov"])) < 1e-2


def test_an_mcgdiff_step_is_the_reference(drawn: Callable[[Tensor], None]) -> None:
    case = STEPS["mcgdiff"]
    values = tensor([*case["singular_values"], 0.0])
    operator = Matrix(values.diag()[:2])
    alpha, alpha_next = case["alpha_t"], case["alpha_s"]
    levels = [alpha**2, alpha_next**2, *sorted(case["alpha_tau_squared"])]
    path = Table((*(math.sqrt(1.0 / level - 1.0) for level in levels), 0.0))
    x1_hat = tensor(case["x1hat"])
    prior = from_denoiser(lambda x, tau: x1_hat, path)
    measurement = LinearMeasurement(operator, tensor(case["Uty"]), case["sigma_y"] ** 2)
    svd = operator.svd()
    potential = pinned(spectrum(measurement), path, uniform_times(len(levels)), case["kappa"])
    assert relative_error(potential.alpha2_at_pin[:2], tensor(case["alpha_tau_squared"])) < 1e-9
    method = PinnedFilter(prior, measurement, svd, potential, None)
    tau_next = 1.0 / len(levels)
    level = Level(0, 0.0, tau_next, step_kernel(path, 0.0, tau_next, case["eta"]))
    x = tensor(case["x_t"])
    owed = -potential.log_value(svd.v_t(x), alpha)
    carried, increment = method.weigh(x, owed, level)
    expected = tensor(case["log_weight"])
    found = torch.as_tensor(increment)
    assert relative_error(found - found[0], expected - expected[0]) < 1e-9
    drawn(svd.v_t(tensor(case["noise"])))
    x_next, owed_next = method.move(carried, level, None)
    assert relative_error(x_next, tensor(case["x_s_without_resampling"])) < 1e-9
    assert relative_error(owed_next, -potential.log_value(svd.v_t(x_next), alpha_next)) < 1e-9


# --- evidence and posterior, exactly known


def log_evidences(method: Callable[..., Particles], seeds: int, *arguments: Any, **options: Any) -> Tensor:
    """log_evidence of each seed on the golden mixture; arguments: num_particles, event, num_steps."""
    return tensor(
        [
            method(mixture(), observed(), *arguments, generator=seeded(seed), **options).log_evidence
            for seed in range(seeds)
        ]
    )


def test_the_twisted_sampler_finds_the_evidence_and_the_posterior_mean() -> None:
    particles = tds(mixture(), observed(), 512, (2,), 100, twist="tweedie", generator=seeded())
    assert particles.log_evidence == pytest.approx(EVIDENCE, abs=0.1)
    assert relative_error(particles.mean(), tensor(MIXTURE["posterior_mean"])) < 0.05
    centred = particles.x - particles.mean()
    cov = (particles.log_weights.exp()[:, None] * centred).T @ centred
    assert relative_error(cov, tensor(MIXTURE["posterior_cov"])) < 0.2
    assert len(particles.ess) == 101
    assert min(particles.ess) > 100.0


@pytest.mark.parametrize(
    ("method", "options", "tolerance"),
    [
        (tds, {"twist": "tweedie"}, 0.1),
        (tds, {"twist": "pigdm", "data_std": 4.0}, 0.15),
        (bootstrap, {"twist": "pigdm", "data_std": 4.0}, 0.15),
        (bootstrap, {"twist": "tweedie"}, 0.15),
        (bootstrap, {}, 0.3),
        (importance_sampling, {}, 0.3),
        (mcgdiff, {"width": 0.5}, 0.3),
    ],
)
def test_the_evidence_is_unbiased(method: Any, options: dict[str, Any], tolerance: float) -> None:
    found = log_evidences(method, 4, 256, (2,), 40, **options)
    assert (found.logsumexp(0) - math.log(4)).item() == pytest.approx(EVIDENCE, abs=tolerance)


def test_the_tweedie_twist_of_a_gaussian_is_exact() -> None:
    """Its psi is p(y | x), so that the weights differ by what a step of finite length loses only."""
    prior = GaussianPrior(tensor([1.0, -2.0]), tensor([[2.0, 0.5], [0.5, 1.0]]), VP())
    a, y, variance = tensor([[1.0, 0.3]]), tensor([2.0]), 0.25
    measurement = LinearMeasurement(Matrix(a), y, variance)
    particles = tds(prior, measurement, 64, (2,), 200, twist="tweedie", generator=seeded())
    evidence = prior.log_evidence(a, y, variance).item()
    assert particles.log_evidence == pytest.approx(evidence, abs=0.05)
    assert min(particles.ess) > 50.0


def test_importance_sampling_is_unbiased_on_a_gaussian() -> None:
    prior = GaussianPrior(tensor([0.5, -1.0]), tensor([[1.0, 0.4], [0.4, 2.0]]))
    a, y, variance = tensor([[1.0, 0.3]]), tensor([0.4]), 1.0
    measurement = LinearMeasurement(Matrix(a), y, variance)
    particles = importance_sampling(prior, measurement, 20_000, (2,), 100, generator=seeded())
    assert particles.log_evidence == pytest.approx(prior.log_evidence(a, y, variance).item(), abs=0.02)
    assert relative_error(particles.mean(), prior.posterior(a, y, variance).mean) < 0.05
    assert particles.ess[:-1] == pytest.approx([20_000.0] * 100)


def test_mcgdiff_starts_from_its_first_potential() -> None:
    """owed = log (mass of N(0, 1) N(x; alpha y, V)) - log N(x; alpha y, V), in the coordinate observed."""
    path = Table((2.0, 1.0, 0.5, 0.0))
    operator = Matrix(tensor([[1.0, 0.0]]))
    measurement = LinearMeasurement(operator, tensor([3.0]), 1.0)
    potential = pinned(spectrum(measurement), path, uniform_times(3), 0.25)
    method = PinnedFilter(from_denoiser(lambda x, tau: x, path), measurement, operator.svd(), potential, None)
    alpha, sigma = path.alpha(0.0), path.sigma(0.0)
    variance = 1.0 - 0.75 * alpha**2 / 0.5  # alpha^2 = 1 / 2 where sigma / alpha = sigma_y / s = 1
    x, owed = method.start(torch.zeros(100_000, 2, dtype=DOUBLE), seeded())
    mass = log_normal(tensor(0.0), tensor(3.0) * alpha, tensor(sigma**2 + variance))
    expected = mass - log_normal(x[:, 0], tensor(3.0) * alpha, tensor(variance))
    assert relative_error(torch.as_tensor(owed), expected) < 1e-9
    precision = 1.0 / sigma**2 + 1.0 / variance
    assert x[:, 0].mean().item() == pytest.approx(3.0 * alpha / variance / precision, abs=0.01)
    assert x.var(0).tolist() == pytest.approx([1.0 / precision, sigma**2], rel=0.02)


def test_a_bootstrap_filter_moves_as_the_prior_does() -> None:
    """The twist chooses among its particles, and bends none of them."""
    unweighed = importance_sampling(mixture(), observed(), 16, (2,), 10, generator=seeded())
    never = bootstrap(mixture(), observed(), 16, (2,), 10, twist="pigdm", threshold=0.0, generator=seeded())
    assert torch.equal(never.x, unweighed.x)
    assert relative_error(never.log_weights, unweighed.log_weights) < 1e-9
    assert never.log_evidence == pytest.approx(unweighed.log_evidence, abs=1e-9)


def test_mcgdiff_weighs_no_more_once_nothing_is_held() -> None:
    """The coordinate is as noisy as its observation at tau = .72; the last weight is the next."""
    particles = mcgdiff(mixture(), observed(), 64, (2,), 20, generator=seeded())
    assert len(set(particles.ess[15:-1])) == 1
    assert particles.ess[-1] < particles.ess[-2]


@pytest.mark.parametrize("method", [fps, mcgdiff])
def test_filters_reach_the_posterior_of_a_gaussian(method: Any) -> None:
    """Nearly: FPS depends on the observations it drew, so that its mean is one of several."""
    prior = GaussianPrior(tensor([0.5, -1.0, 0.0]), torch.eye(3, dtype=DOUBLE), VP())
    a, y, variance = tensor([[1.0, 0.3, 0.0], [0.0, 0.5, 0.5]]), tensor([2.0, 1.0]), 0.01
    measurement = LinearMeasurement(Matrix(a), y, variance)
    means = torch.stack(
        [method(prior, measurement, 256, (3,), 50, generator=seeded(seed)).mean() for seed in range(4)]
    )
    assert relative_error(means.mean(0), prior.posterior(a, y, variance).mean) < 0.1


def test_filters_fit_the_data_that_they_filter() -> None:
    particles = fps(mixture(), observed(1e-4), 64, (2,), 100, generator=seeded())
    residual = observed().residual(particles.x)
    assert residual.abs().max() < 0.2
    assert particles.log_evidence is None


def test_what_is_the_same_for_all_particles_cancels_from_a_twist() -> None:
    """Why the PiGDM twist needs no log determinant: any function of tau alone may be added."""

    def run(extra: Callable[[float], float]) -> Particles:
        twist = make_twist("pigdm", observed(), Cosine(), 4.0)

        def shifted(x1_hat: Tensor, pullback: Any, tau: float) -> Any:
            found = twist(x1_hat, pullback, tau)
            return found._replace(log_psi=found.log_psi + extra(tau))

        method = TwistedFilter(mixture(), observed(), shifted, True, None)
        options = Options(40, 1.0, 0.5, None, seeded(), None)
        return run_filter(method, Cosine(), torch.zeros(64, 2, dtype=DOUBLE), options)

    plain, shifted = run(lambda tau: 0.0), run(lambda tau: 3.0 - 7.0 * tau**2)
    assert torch.equal(plain.x, shifted.x)
    assert plain.log_evidence == pytest.approx(shifted.log_evidence, abs=1e-9)


# --- behaviour


METHODS = [
    (tds, {"twist": "tweedie"}),
    (tds, {"twist": "pigdm"}),
    (tds, {"twist": "dps"}),
    (bootstrap, {"twist": "pigdm"}),
    (bootstrap, {}),
    (importance_sampling, {}),
    (fps, {}),
    (mcgdiff, {}),
]


@pytest.mark.parametrize(("method", "options"), METHODS)
def test_the_slices_change_nothing(method: Any, options: dict[str, Any]) -> None:
    whole, slices = (
        method(mixture(), observed(), 12, (2,), 10, particle_batch=batch, generator=seeded(), **options)
        for batch in (None, 5)
    )
    assert relative_error(slices.x, whole.x) < 1e-9
    assert relative_error(slices.log_weights, whole.log_weights) < 1e-9


@pytest.mark.parametrize(("method", "options"), METHODS)
def test_the_network_is_called_once_a_step_with_at_most_a_slice(method: Any, options: dict[str, Any]) -> None:
    calls: list[tuple[Time, int]] = []
    exact = mixture(VP())

    def denoise(x: Tensor, tau: Time) -> Tensor:
        calls.append((tau, len(x)))
        return exact.denoise(x, tau)

    method(
        from_denoiser(denoise, VP()), observed(), 10, (2,), 4, particle_batch=5, generator=seeded(), **options
    )
    assert calls == [(step / 4, 5) for step in range(4) for _ in range(2)]


@pytest.mark.parametrize(("method", "options"), METHODS)
def test_a_filter_is_seeded_and_leaves_no_graph(method: Any, options: dict[str, Any]) -> None:
    heard: list[tuple[int, float, tuple[int, ...], tuple[int, ...]]] = []

    def callback(step: int, tau: float, x: Tensor, x1_hat: Tensor) -> None:
        heard.append((step, tau, tuple(x.shape), tuple(x1_hat.shape)))

    first, second = (
        method(mixture(), observed(), 8, (2,), 5, generator=seeded(3), callback=callback, **options)
        for _ in range(2)
    )
    assert torch.equal(first.x, second.x)
    assert not first.x.requires_grad
    assert heard[:5] == [(step, step / 5, (8, 2), (8, 2)) for step in range(5)]
    assert first.log_weights.logsumexp(0).item() == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("path", [STRAIGHT, VP(), Cosine(), VE(20.0, 0.01)])
def test_a_twisted_sampler_runs_on_every_path(path: Any) -> None:
    particles = tds(mixture(path), observed(), 256, (2,), 100, twist="tweedie", generator=seeded())
    assert particles.log_evidence == pytest.approx(EVIDENCE, abs=0.2)


def test_images_and_single_precision_are_particles_too() -> None:
    prior = from_denoiser(lambda x, tau: tau * x / (tau**2 + (1 - tau) ** 2))
    operator = Matrix(torch.eye(12)[:6], (3, 2, 2))
    measurement = LinearMeasurement(operator, torch.ones(6), 0.01)
    for method in (tds, fps):
        particles = method(prior, measurement, 16, (3, 2, 2), 20, generator=seeded())
        assert particles.x.shape == (16, 3, 2, 2)
        assert particles.x.dtype == torch.float32
        assert (operator.forward(particles.mean()) - 1.0).abs().max() < 0.2


def test_any_likelihood_can_weigh() -> None:
    """A nonlinear measurement |x1| = 5, as an energy: a ring, of which the prior's points remain."""
    ring = Energy(lambda x1: (x1.norm(dim=-1) - 5.0).square() / 0.08)
    methods: list[tuple[Any, dict[str, str]]] = [(tds, {"twist": "dps"}), (bootstrap, {})]
    for method, options in [*methods, (importance_sampling, {})]:
        particles = method(mixture(), ring, 512, (2,), 50, generator=seeded(), **options)
        assert (particles.draw(100, seeded()).norm(dim=-1) - 5.0).abs().mean() < 0.3


def test_a_nonlinear_operator_twists_by_its_derivative() -> None:
    operator = from_function(lambda x: x.square().sum(-1, keepdim=True), (2,), linear=False)
    measurement = LinearMeasurement(operator, tensor([25.0]), 1.0)
    for twist in ("pigdm", "tweedie"):
        particles = tds(mixture(), measurement, 256, (2,), 60, twist=twist, data_std=4.0, generator=seeded())
        assert (particles.draw(100, seeded()).norm(dim=-1) - 5.0).abs().mean() < 0.3
    with pytest.raises(Unsupported, match="not linear"):
        fps(mixture(), measurement, 4, (2,), 5)


def test_each_value_may_have_its_own_noise() -> None:
    a, y = tensor([[1.0, 0.3], [0.2, 1.0]]), tensor([3.0, 5.0])
    variance = tensor([0.25, 4.0])
    exact = mixture().posterior(a, y, variance).mean
    measurement = LinearMeasurement(Matrix(a), y, variance)
    evidence = mixture().log_evidence(a, y, variance).item()
    particles = tds(mixture(), measurement, 512, (2,), 60, twist="tweedie", generator=seeded())
    assert particles.log_evidence == pytest.approx(evidence, abs=0.1)
    assert relative_error(particles.mean(), exact) < 0.06


# --- refusals


@pytest.mark.parametrize(("method", "options"), METHODS)
def test_noise_0_is_refused(method: Any, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match="noise_variance is 0"):
        method(mixture(), observed(0.0), 4, (2,), 5, **options)


@pytest.mark.parametrize(("method", "options"), METHODS)
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_particles": 0}, "num_particles is 0"),
        ({"num_steps": 0}, "num_steps is 0"),
        ({"event": (3,)}, "shape"),
        ({"particle_batch": 0}, "particle_batch is 0"),
        ({"num_particles": 10**13}, "--particle-batch"),
    ],
)
def test_wrong_arguments_are_refused(
    method: Any, options: dict[str, Any], wrong: dict[str, Any], message: str
) -> None:
    arguments = {"num_particles": 4, "event": (2,), "num_steps": 5} | options | wrong
    with pytest.raises(InvalidArgument, match=message) as caught:
        method(mixture(), observed(), **arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("method", "wrong", "message"),
    [
        (tds, {"twist": "best"}, "choose one of tweedie, pigdm, dps"),
        (tds, {"eta": 0.0}, "eta is 0"),
        (tds, {"eta": 1.5}, "eta is 1.5"),
        (tds, {"data_std": 0.0}, "data_std is 0"),
        (tds, {"threshold": 2.0}, "threshold is 2"),
        (bootstrap, {"twist": "best"}, "choose one of none"),
        (fps, {"freshness": 0.0}, "freshness is 0"),
        (mcgdiff, {"width": 0.0}, "width is 0"),
        (mcgdiff, {"eta": 0.0}, "eta is 0"),
    ],
)
def test_wrong_knobs_are_refused(method: Any, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        method(mixture(), observed(), 4, (2,), 5, **wrong)


def test_a_filter_says_what_it_cannot_use() -> None:
    with pytest.raises(InvalidArgument, match="alpha"):
        mcgdiff(mixture(STRAIGHT), observed(), 4, (2,), 5)
    with pytest.raises(InvalidArgument, match='twist="dps"'):
        tds(mixture(), Energy(lambda x1: x1.sum(-1)), 4, (2,), 5)
    several = LinearMeasurement(Matrix(tensor(MIXTURE["A"])), torch.zeros(3, 1, dtype=DOUBLE), 0.1)
    with pytest.raises(InvalidArgument, match="shape"):
        tds(mixture(), several, 4, (2,), 5)
    large = LinearMeasurement(Matrix(torch.eye(300)), torch.zeros(300), 0.1)
    with pytest.raises(InvalidArgument, match='twist="pigdm"'):
        tds(from_denoiser(lambda x, tau: x), large, 4, (300,), 5, twist="tweedie")


def test_a_prior_that_breaks_is_named() -> None:
    broken = from_denoiser(lambda x, tau: x * math.nan, Cosine())
    with pytest.raises(InvalidArgument, match="no particle has a finite weight"):
        tds(broken, observed(), 4, (2,), 5)


def test_memory_that_runs_out_is_one_line() -> None:
    def denoise(x: Tensor, tau: Time) -> Tensor:
        if len(x) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return x

    prior = from_denoiser(denoise, Cosine())
    with pytest.raises(InvalidArgument, match=r"8 particles of shape.*--particle-batch"):
        importance_sampling(prior, observed(), 8, (2,), 5)
    assert importance_sampling(prior, observed(), 8, (2,), 5, particle_batch=4).x.shape == (8, 2)
