"""Strategies: what they compute, what it costs, and how a broken policy shows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from oracle import Counted
from point_mass import GaussianPolicy, GaussianPrior
from torch import Tensor

from rtc.errors import InvalidArgument, Unsupported
from rtc.prefix import Prefix
from rtc.prior import Prior, from_denoiser
from rtc.runtime.controller import ChunkController, Request
from rtc.runtime.observation import Scene
from rtc.runtime.strategies import STRATEGIES, Oracle, Strategy, make_strategy

HORIZON = 8


class CountedPolicy(GaussianPolicy):
    def condition(self, obs: Tensor) -> Prior:  # pyright: ignore[reportIncompatibleMethodOverride]
        exact = super().condition(obs)
        return from_denoiser(lambda x, tau: Counted.apply(exact.denoise(x, tau)))  # pyright: ignore


class BrokenPolicy(GaussianPolicy):
    """Not a number, or infinite, from a flow time on, for the rows whose first observation is negative."""

    max_delay = HORIZON  # it would take a prefix, and not read it

    def __init__(self, tau: float, value: float = float("nan")) -> None:
        super().__init__()
        self.tau, self.value = tau, value

    def condition(self, obs: Tensor, prefix: Prefix | None = None) -> Prior:  # pyright: ignore
        exact, broken = super().condition(obs), (obs[:, 0] < 0)[:, None, None]
        return from_denoiser(
            lambda x, tau: torch.where(broken & (tau >= self.tau - 1e-6), self.value, exact.denoise(x, tau))
        )


def request(executed: int = 2, inference_delay: int = 3, value: float = 0.4) -> Request:
    controller = ChunkController(np.full((HORIZON, 2), value, np.float32))
    for _ in range(executed):
        controller.next_action()
    return controller.request(inference_delay)


def observations(batch: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(0.1, 1.0, (batch, 6)).astype(np.float32)


def gaussian_noise(batch: int) -> Tensor:
    return torch.randn(batch, HORIZON, 2, generator=torch.Generator().manual_seed(0))


def infer(strategy: Strategy, requests: list[Request | None]):
    return strategy(observations(len(requests)), requests, gaussian_noise(len(requests)))


@pytest.mark.parametrize("name", ["synchronous", "naive"])
def test_the_baselines_sample_the_policy_whatever_is_running(name: str) -> None:
    strategy = make_strategy(name, GaussianPolicy(), num_steps=400)
    chunks, _ = infer(strategy, [request(), None])
    # The flow of a Gaussian is affine: x1 = mean + covariance^(1/2) x0 as the number of steps grows.
    prior = GaussianPolicy().condition(torch.from_numpy(observations(2)))
    values, vectors = torch.linalg.eigh(prior.covariance)
    root = vectors @ values.sqrt().diag() @ vectors.T
    expected = GaussianPolicy().denormalize(prior.mean + root @ gaussian_noise(2))
    np.testing.assert_allclose(chunks, expected.numpy(), atol=0.02)
    assert strategy.name == name


class TrainedPolicy(GaussianPolicy):
    """The Gaussian policy given its first rows, in closed form."""

    max_delay = HORIZON

    def condition(self, obs: Tensor, prefix: Prefix | None = None) -> Prior:  # pyright: ignore
        prior = super().condition(obs)
        assert prefix is not None
        known, cov = prefix.committed, prior.covariance
        means = []
        for row, mask in enumerate(known):
            gain = cov[:, mask] @ torch.linalg.inv(cov[mask][:, mask])
            means.append(prior.mean[row] + gain @ (prefix.actions[row] - prior.mean[row])[mask])
        return from_denoiser(lambda x, tau: torch.stack(means))  # the mean, whatever the noise


def test_only_the_synchronous_baseline_waits() -> None:
    waiting = {name for name in STRATEGIES if make_strategy(name, TrainedPolicy()).waits}
    assert waiting == {"synchronous"}


def test_conditioned_gives_the_policy_the_frozen_rows_and_nothing_else() -> None:
    one, other = request(executed=2, inference_delay=3), request(executed=2, inference_delay=0)
    chunks, info = infer(make_strategy("conditioned", TrainedPolicy()), [one, other, None])
    prior = GaussianPolicy().condition(torch.from_numpy(observations(3)))
    gain = prior.covariance[:, :3] @ torch.linalg.inv(prior.covariance[:3, :3])
    target = GaussianPolicy().normalize(torch.from_numpy(one.previous.copy()))
    expected = prior.mean[0] + gain @ (target - prior.mean[0])[:3]
    np.testing.assert_allclose(chunks[0], GaussianPolicy().denormalize(expected).numpy(), atol=1e-5)
    np.testing.assert_allclose(chunks[0, :3], one.previous[:3], atol=1e-5)
    for row in (1, 2):  # nothing is frozen: the unconditional mean
        np.testing.assert_allclose(chunks[row], GaussianPolicy().denormalize(prior.mean[row]), atol=1e-5)
    assert (info.vjps, info.guided.any()) == (0, False)


def test_conditioned_tells_no_more_rows_than_the_policy_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TrainedPolicy, "max_delay", 2)
    strategy = make_strategy("conditioned", TrainedPolicy())
    far, _ = infer(strategy, [request(executed=2, inference_delay=5)])
    near, _ = infer(strategy, [request(executed=2, inference_delay=2)])
    assert np.array_equal(far, near)


def test_auto_tells_a_policy_that_was_trained_to_be_told_and_guides_any_other() -> None:
    requests: list[Request | None] = [
        request(executed=2, inference_delay=3),
        request(inference_delay=0),
        None,
    ]
    for policy, name in ((TrainedPolicy(), "conditioned"), (GaussianPolicy(), "realtime")):
        auto, info = infer(make_strategy("auto", policy, num_steps=4), requests)
        told = make_strategy(name, policy, num_steps=4, schedule="zeros", jacobian="identity")
        same, expected = infer(told, requests)
        assert np.array_equal(auto, same)
        assert (info.network_calls, info.vjps) == (expected.network_calls, expected.vjps)
    naive, _ = infer(make_strategy("naive", GaussianPolicy(), num_steps=4), requests)
    assert np.array_equal(auto[1:], naive[1:])  # where nothing is frozen, the policy as it is
    assert not np.array_equal(auto[0], naive[0])


def test_conditioned_says_what_to_train() -> None:
    with pytest.raises(Unsupported, match="rtc train --max-delay 8"):
        make_strategy("conditioned", GaussianPolicy())


def test_an_ensemble_plays_the_mean_of_all_predictions_for_a_tick() -> None:
    """Against the definition, from the samples themselves, for irregular execution horizons."""
    naive, ensemble = (make_strategy(name, GaussianPolicy()) for name in ("naive", "ensemble"))
    random = torch.Generator().manual_seed(3)
    predictions: dict[int, list[np.ndarray]] = {}
    controller, start, plan = None, 0, None
    for executed in (3, 1, 4, 2, 2, 8, 1):
        noise = torch.randn(1, HORIZON, 2, generator=random)
        sampled = naive(observations(1), [plan], noise)[0][0]
        blended = ensemble(observations(1), [plan], noise)[0][0]
        for row in range(HORIZON):
            predictions.setdefault(start + row, []).append(sampled[row])
        expected = [np.mean(predictions[start + row], axis=0) for row in range(HORIZON)]
        np.testing.assert_allclose(blended, expected, atol=1e-5)
        if controller is None:
            controller = ChunkController(blended)
        else:
            controller.deliver(blended)
        for _ in range(executed):
            controller.next_action()
        plan, start = controller.request(0), start + executed


def test_the_oracle_is_given_the_env_the_frozen_rows_and_the_episodes_own_chance() -> None:
    asked = []

    def foresee(env: str, frozen: np.ndarray, horizon: int, random: np.random.Generator) -> np.ndarray:
        asked.append((env, frozen, random.random()))
        return np.zeros((horizon, 2))

    oracle, plan = Oracle(foresee, HORIZON), request(executed=2, inference_delay=3)
    scenes = [Scene(env, observations(1)[0]) for env in ("a", "b")]
    chunks, info = oracle(scenes, [plan, None], gaussian_noise(2))
    oracle(scenes[1:], [None], gaussian_noise(2)[1:])
    assert chunks.shape == (2, HORIZON, 2)
    assert chunks.dtype == np.float32
    assert [env for env, *_ in asked] == ["a", "b", "b"]
    assert np.array_equal(asked[0][1], plan.frozen)
    assert len(asked[1][1]) == 0
    assert asked[0][2] != asked[1][2] == asked[2][2]  # a function of the noise, not of the batch
    assert (oracle.privileged, info.network_calls, info.vjps) == (True, 0, 0)


@pytest.mark.parametrize("schedule", ["exp", "linear", "ones", "zeros"])
def test_realtime_holds_the_frozen_rows_and_carries_them_on(schedule: str) -> None:
    plan = request(executed=2, inference_delay=3)
    naive, _ = infer(make_strategy("naive", GaussianPolicy()), [plan])
    guided, _ = infer(make_strategy("realtime", GaussianPolicy(), schedule=schedule), [plan])
    error = np.abs(guided[0] - plan.previous)
    assert error[:3].max() < 0.1  # five steps with max_weight 5 do not pin them exactly
    # The offset is shared by the whole chunk, so the frozen rows tell where the free ones should go.
    free = slice(HORIZON - 2, HORIZON)
    assert np.abs(guided[0, free] - 0.4).max() < 0.5 * np.abs(naive[0, free] - 0.4).max()


def test_identity_guidance_does_not_carry_the_frozen_rows_into_the_free_ones() -> None:
    plan = request(executed=2, inference_delay=3)
    exact, _ = infer(make_strategy("realtime", GaussianPolicy(), schedule="zeros"), [plan])
    identity, info = infer(
        make_strategy("realtime", GaussianPolicy(), schedule="zeros", jacobian="identity"), [plan]
    )
    assert np.abs(identity[0, -1] - 0.4).max() > 2 * np.abs(exact[0, -1] - 0.4).max()
    assert info.vjps == 0


def test_the_target_is_the_plan_in_the_units_of_the_policy() -> None:
    plan = request(executed=0, inference_delay=HORIZON, value=0.3)
    chunks, _ = infer(make_strategy("realtime", GaussianPolicy(), max_weight="steps", num_steps=20), [plan])
    np.testing.assert_allclose(chunks[0], 0.3, atol=0.02)


def test_in_a_mixed_batch_only_the_rows_with_a_plan_are_guided() -> None:
    naive, _ = infer(make_strategy("naive", GaussianPolicy()), [None, None, None])
    mixed, info = infer(make_strategy("realtime", GaussianPolicy()), [None, request(), request(executed=8)])
    np.testing.assert_allclose(mixed[[0, 2]], naive[[0, 2]], atol=1e-6)
    assert np.abs(mixed[1] - naive[1]).max() > 0.1
    assert info.guided.tolist() == [False, True, False]


def test_rows_beyond_the_plan_and_beyond_the_mask_end_are_free() -> None:
    def moved(**options) -> np.ndarray:
        # Rows that do not depend on each other: what guidance moves is what it was told about.
        policy = GaussianPolicy(offset=0.0, own=0.5)
        strategy = make_strategy("realtime", policy, schedule="ones", **options)
        naive, _ = infer(make_strategy("naive", policy), [plan])
        return np.abs(infer(strategy, [plan])[0] - naive)[0].max(axis=1) > 1e-4

    plan = request(executed=3, inference_delay=7)
    assert moved().tolist() == [True] * 5 + [False] * 3
    assert moved(mask_end=2).tolist() == [True] * 2 + [False] * 6
    assert moved(mask_end=8).tolist() == moved().tolist()


@pytest.mark.parametrize(
    ("name", "options", "requests", "vjps"),
    [
        ("naive", {}, [request()], 0),
        ("synchronous", {}, [request()], 0),
        ("realtime", {}, [request(), None], 6),
        ("realtime", {"jacobian": "identity"}, [request()], 0),
        ("realtime", {}, [None, None], 0),
        ("realtime", {"mask_end": 0}, [request()], 0),
        ("realtime", {"schedule": "zeros"}, [request(inference_delay=0)], 0),
    ],
)
def test_the_reported_cost_is_what_ran(name, options, requests, vjps) -> None:
    strategy = make_strategy(name, CountedPolicy(), num_steps=6, **options)
    Counted.clear()
    _, info = infer(strategy, requests)
    assert (info.network_calls, info.vjps) == (Counted.forwards, Counted.vjps) == (6, vjps)


class LookingPolicy(GaussianPolicy):
    """Sees a dict with an image; its law is that of the state."""

    def condition(self, obs: dict[str, Tensor]) -> Prior:  # pyright: ignore[reportIncompatibleMethodOverride]
        assert obs["front"].dtype == torch.uint8
        return super().condition(obs["state"])


@pytest.mark.parametrize("name", ["naive", "synchronous", "ensemble", "realtime"])
def test_with_images_the_chunks_and_their_accounts_are_those_of_the_states(name: str) -> None:
    state, noise, requests = observations(3), gaussian_noise(3), [request(), None, request()]
    seen = {"state": state, "front": np.zeros((3, 4, 4, 3), np.uint8)}
    chunks, info = make_strategy(name, LookingPolicy())(seen, requests, noise)
    expected, plain = make_strategy(name, GaussianPolicy())(state, requests, noise)
    np.testing.assert_array_equal(chunks, expected)
    assert info.guided.tolist() == plain.guided.tolist()
    assert len(info.guided) == len(info.nonfinite_step) == 3


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("step", [0, 2, 4])
def test_a_row_that_is_not_finite_is_named_with_its_flow_step(name: str, value: float, step: int) -> None:
    obs = observations(3)
    obs[1, 0] *= -1
    strategy = make_strategy(name, BrokenPolicy(step / 5, value))
    chunks, info = strategy(obs, [request()] * 3, gaussian_noise(3))
    fine, broken, also_fine = info.nonfinite_step.tolist()
    assert (fine, also_fine) == (-1, -1)
    assert broken == {"warm": max(0, step - 2), "paint": 0}.get(
        name, step
    )  # warm begins at 0.4; paint goes back
    assert np.isfinite(chunks[[0, 2]]).all()


def test_a_chunk_broken_after_the_flow_is_named_too() -> None:
    class Broken(GaussianPolicy):
        def denormalize(self, actions: Tensor) -> Tensor:
            return actions / 0.0 * 0.0

    _, info = infer(make_strategy("naive", Broken(), num_steps=3), [None])
    assert info.nonfinite_step.tolist() == [3]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("telepathy", {}, "telepathy.*synchronous, naive, ensemble, .*realtime"),
        ("realtime", {"schedule": "steep"}, "steep"),
        ("realtime", {"jacobian": "guess"}, "guess"),
        ("realtime", {"max_weight": -1.0}, "max_weight"),
        ("realtime", {"mask_end": 9}, r"0\.\.8"),
    ],
)
def test_what_does_not_exist_is_refused_before_anything_runs(name, options, message) -> None:
    with pytest.raises(InvalidArgument, match=message):
        make_strategy(name, GaussianPolicy(), **options)


def test_the_test_policy_is_the_prior_it_claims_to_be() -> None:
    prior = GaussianPrior(torch.zeros(1, 3, 1), 0.5, 0.2)
    samples = torch.linalg.cholesky(prior.covariance) @ torch.randn(
        3, 200_000, generator=torch.Generator().manual_seed(1)
    )
    x = 0.6 * samples + 0.4 * torch.randn(samples.shape, generator=torch.Generator().manual_seed(2))
    # The denoiser is the regression of the data on the noisy point: its residual is uncorrelated with it.
    residual = samples - prior.denoise(x.T[..., None], 0.6)[..., 0].T
    assert (residual @ x.T / x.shape[1]).abs().max() < 3e-3
