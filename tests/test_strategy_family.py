"""The strategies besides guidance, each against its own rule."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from point_mass import GaussianPolicy
from torch import Tensor

from rtc.errors import InvalidArgument, Unsupported
from rtc.runtime.controller import ChunkController, Request
from rtc.runtime.mask import prefix_weights
from rtc.runtime.observation import Scene
from rtc.runtime.strategies import (
    STRATEGIES,
    Learned,
    Oracle,
    Rollforward,
    Simulator,
    Strategy,
    make_strategy,
)
from rtc.runtime.strategies.blending import Ensemble
from rtc.runtime.strategies.selection import select

GOLDEN = Path(__file__).parent / "golden"
HORIZON = 8


def plan(executed: int = 2, delay: int = 3, seed: int = 1) -> Request:
    random = np.random.default_rng(seed)  # nearly constant in time, as the policy's own chunks are
    rows = (random.uniform(-0.5, 0.5, 2) + 0.04 * random.standard_normal((HORIZON, 2))).astype(np.float32)
    controller = ChunkController(rows)
    for _ in range(executed):
        controller.next_action()
    return controller.request(delay)


def observations(batch: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.1, 0.1, (batch, 6)).astype(np.float32)


def gaussian_noise(batch: int) -> Tensor:
    return torch.randn(batch, HORIZON, 2, generator=torch.Generator().manual_seed(0))


def infer(name: str, requests: list[Request | None], **options: Any) -> np.ndarray:
    strategy = make_strategy(name, GaussianPolicy(), **options)
    return strategy(observations(len(requests)), requests, gaussian_noise(len(requests)))[0]


def prefix_error(chunks: np.ndarray, *requests: Request | None) -> float:
    pairs = [(chunk, request.frozen) for chunk, request in zip(chunks, requests, strict=True) if request]
    return float(np.sqrt(np.mean([(chunk[: len(frozen)] - frozen) ** 2 for chunk, frozen in pairs])))


BID = json.loads((GOLDEN / "bid.json").read_text())["cases"]
ENSEMBLES = json.loads((GOLDEN / "execution.json").read_text())["temporal_ensembling"]


@pytest.mark.parametrize("case", BID, ids=lambda case: case["case"])
def test_bid_selects_what_the_released_code_selects(case: dict[str, Any]) -> None:
    arrays = {name: torch.from_numpy(values) for name, values in np.load(GOLDEN / "bid.npz").items()}
    rows = arrays["prev_chunk"].shape[1]
    weights = prefix_weights(rows, case["inference_delay"], rows - case["prefix_attention_horizon"]).double()
    weak = None if case["mode_size"] is None else arrays["weak"]
    chosen = select(
        arrays["strong"],
        arrays["prev_chunk"],
        weights.expand(len(arrays["prev_chunk"]), -1),
        weak,
        case["mode_size"] or 1,
    )
    assert chosen.tolist() == case["selected"]


def test_bid_with_one_sample_is_naive_and_with_more_is_nearer_to_the_plan() -> None:
    requests: list[Request | None] = [plan(seed=seed) for seed in range(6)]
    assert np.array_equal(infer("bid", requests, samples=1, mode_size=1), infer("naive", requests))
    few, many = (prefix_error(infer("bid", requests, samples=n), *requests) for n in (4, 64))
    assert many < few < prefix_error(infer("naive", requests), *requests)


def test_bid_does_not_depend_on_its_neighbours_in_the_batch() -> None:
    both = infer("bid", [plan(seed=1), plan(seed=2)])
    strategy = make_strategy("bid", GaussianPolicy())
    alone, _ = strategy(observations(2)[1:], [plan(seed=2)], gaussian_noise(2)[1:])
    np.testing.assert_allclose(both[1], alone[0], atol=1e-6)


def test_bid_with_a_weak_policy_that_it_resembles_chooses_otherwise() -> None:
    requests: list[Request | None] = [plan(seed=seed) for seed in range(8)]
    alone = infer("bid", requests)
    contrasted = infer("bid", requests, weak=GaussianPolicy(own=0.6))
    assert (alone != contrasted).any()


@pytest.mark.parametrize("case", ENSEMBLES, ids=lambda case: case["m"])
def test_ensembling_weighs_the_oldest_most_as_the_reference_does(case: dict[str, Any]) -> None:
    strategy = Ensemble(GaussianPolicy(), decay=case["m"])
    mean = np.full((HORIZON, 1), case["predictions"][0], np.float32)
    for earlier, value in enumerate(case["predictions"][1:], start=1):
        request = Request(earlier, 0, 0, mean, HORIZON, frames=tuple(range(earlier)))
        mean = strategy._average(np.full((HORIZON, 1), value, np.float32), request)
    assert mean[0, 0] == pytest.approx(case["value"], rel=1e-6)
    assert mean[-1, 0] == case["predictions"][-1]  # nobody but the newest chunk has spoken of its last row


def test_a_blend_mixes_the_overlap_and_nothing_else() -> None:
    request = plan(executed=3)
    naive, mixed = infer("naive", [request, None]), infer("blend", [request, None], keep=0.25)
    overlap = HORIZON - 3
    expected = 0.25 * request.previous[:overlap] + 0.75 * naive[0, :overlap]
    np.testing.assert_allclose(mixed[0, :overlap], expected, rtol=1e-6)
    assert np.array_equal(mixed[0, overlap:], naive[0, overlap:])
    assert np.array_equal(mixed[1], naive[1])


@pytest.mark.parametrize(
    ("name", "options"), [("seam", {"strength": 0.0}), ("seam", {"rows": 0}), ("blend", {"keep": 0.0})]
)
def test_with_its_knob_at_zero_a_strategy_is_naive(name: str, options: dict[str, Any]) -> None:
    requests: list[Request | None] = [plan(), None]
    assert np.array_equal(infer(name, requests, **options), infer("naive", requests))


def test_a_vjp_at_every_kth_step_lies_between_exact_and_identity_and_costs_its_part() -> None:
    request, chunks, vjps = plan(), {}, {}
    for every, jacobian in ((1, "exact"), (2, "exact"), (5, "exact"), (1, "identity")):
        strategy = make_strategy("realtime", GaussianPolicy(), vjp_every=every, jacobian=jacobian)
        chunks[every, jacobian], info = strategy(observations(1), [request], gaussian_noise(1))
        vjps[every, jacobian] = info.vjps
    assert list(vjps.values()) == [5, 3, 1, 0]
    # an exact prior has J = 0 at the first step, where J = I would have moved it
    assert not np.array_equal(chunks[5, "exact"], chunks[1, "identity"])
    distance = [float(np.abs(chunks[every, "exact"] - chunks[1, "exact"]).max()) for every in (1, 2, 5)]
    assert distance[0] == 0.0 < distance[1] < distance[2]


@pytest.mark.parametrize("name", ["overwrite", "paint", "warm", "seam", "posterior", "realtime", "bid"])
def test_a_first_chunk_is_drawn_as_naive_draws_it(name: str) -> None:
    np.testing.assert_allclose(infer(name, [None, None]), infer("naive", [None, None]), atol=1e-6)


def test_a_seam_pulls_one_step_by_its_formula() -> None:
    request, strength = plan(), 0.2
    policy = GaussianPolicy()
    pulled = infer("seam", [request], strength=strength, num_steps=1)
    naive = infer("naive", [request], num_steps=1)
    rows = request.remaining  # with one step tau is 1 after it, and x is the naive chunk
    expected = naive[0, :rows] - 2 * strength * (naive[0, :rows] - request.previous[:rows])
    np.testing.assert_allclose(pulled[0, :rows], expected, atol=1e-5)
    assert np.array_equal(pulled[0, rows:], naive[0, rows:])
    assert policy.scale == 0.5  # the pull is linear, and so the same in both units


@pytest.mark.parametrize("name", ["seam", "overwrite", "warm", "posterior", "realtime"])
def test_what_steers_comes_nearer_to_the_frozen_rows_than_what_does_not(name: str) -> None:
    requests: list[Request | None] = [plan(seed=seed) for seed in range(6)]
    steered, naive = (prefix_error(infer(each, requests), *requests) for each in (name, "naive"))
    assert steered < 0.75 * naive


def test_overwriting_ends_on_the_frozen_rows() -> None:
    request = plan()
    np.testing.assert_allclose(infer("overwrite", [request])[0, :3], request.frozen, atol=1e-6)


def test_the_inversion_finds_frozen_rows_as_steps_are_added_if_rows_are_independent() -> None:
    """Where they are not, the fresh noise of the free rows moves the frozen ones, and no step helps."""

    def errors(policy: GaussianPolicy) -> list[float]:
        strategies = [make_strategy("paint", policy, num_steps=n) for n in (5, 20, 80)]
        return [
            prefix_error(strategy(observations(1), [plan()], gaussian_noise(1))[0], plan())
            for strategy in strategies
        ]

    few, more, many = errors(GaussianPolicy(offset=0.0, own=0.7))
    assert many < 0.5 * more < 0.25 * few
    assert errors(GaussianPolicy())[-1] > 0.1


def test_a_warm_start_costs_its_part_of_the_steps_and_near_the_end_is_the_plan() -> None:
    strategy = make_strategy("warm", GaussianPolicy(), start=0.6, num_steps=10)
    _, info = strategy(observations(1), [plan()], gaussian_noise(1))
    assert info.network_calls == 4
    request = plan(executed=0)
    late = infer("warm", [request], start=0.999)
    np.testing.assert_allclose(late[0], request.previous, atol=0.02)


def test_the_posterior_gives_free_rows_their_conditional_mean() -> None:
    policy, request, many = GaussianPolicy(offset=0.7, own=0.3), plan(), 600
    strategy = make_strategy("posterior", policy, num_steps=60, noise_std=0.05, iterations=6)
    obs = np.repeat(observations(1), many, 0)
    noise = torch.randn(many, HORIZON, 2, generator=torch.Generator().manual_seed(3))
    chunks = policy.normalize(torch.from_numpy(strategy(obs, [request] * many, noise)[0]))
    prior = policy.condition(torch.from_numpy(observations(1)))
    frozen, free = slice(0, 3), slice(3, None)
    known = policy.normalize(torch.from_numpy(request.frozen.copy())) - prior.mean[0, frozen]
    system = prior.covariance[frozen, frozen] + 0.05**2 * torch.eye(3)
    expected = prior.mean[0, free] + prior.covariance[free, frozen] @ torch.linalg.solve(system, known)
    assert (chunks.mean(0)[free] - expected).abs().max() < 0.06
    assert (chunks.mean(0)[free] - prior.mean[0, free]).abs().max() > 0.2


def drift(env: float, actions: np.ndarray) -> np.ndarray:
    """A world in which every action adds to the first two numbers, times `env`."""
    moved = np.zeros(6, np.float32)
    moved[:2] = env * actions.sum(0)
    return moved


def naive() -> Strategy:
    return make_strategy("naive", GaussianPolicy())


class Watched:
    """A strategy that keeps what it was asked."""

    name, waits, horizon, privileged, history, expected = "watched", False, HORIZON, False, 1, "longest"

    def __init__(self, max_delay: int | None = None) -> None:
        self.max_delay = max_delay
        self.requests: list[Request | None] = []

    def __call__(self, obs: Any, requests: Any, noise: Any):
        self.requests += requests
        return naive()(obs, requests, noise)


def test_roll_forward_draws_from_where_the_frozen_rows_lead() -> None:
    request, obs = plan(), observations(1)
    chunks, info = Rollforward(naive(), Simulator(drift))([Scene(0.1, obs[0])], [request], gaussian_noise(1))
    there = obs.copy()
    there[0, :2] += 0.1 * request.frozen.sum(0)
    expected, _ = naive()(there, [None], gaussian_noise(1))
    assert np.array_equal(chunks[0, :3], request.frozen)
    np.testing.assert_allclose(chunks[0, 3:], expected[0, :-3], atol=1e-6)
    assert info.network_calls == 5


def test_what_roll_forward_does_not_predict_through_is_left_to_the_strategy_inside() -> None:
    request, obs = plan(), observations(1)
    watched = Watched()
    Rollforward(watched, Simulator(drift), ahead=1)([Scene(0.1, obs[0])], [request], gaussian_noise(1))
    (inner,) = watched.requests
    assert inner is not None
    assert (inner.tick, inner.executed, inner.remaining) == (request.tick + 1, 3, 5)
    assert np.array_equal(inner.frozen, request.frozen[1:])
    assert np.array_equal(inner.previous[:5], request.previous[1:6])


def test_a_faulty_model_errs_by_a_part_of_the_change_and_the_same_way_each_time() -> None:
    request, obs = plan(), observations(1)
    scene = [Scene(0.1, obs[0])]
    exact, faulty, again = (
        Rollforward(naive(), Simulator(drift, error))(scene, [request], gaussian_noise(1))[0]
        for error in (0.0, 0.5, 0.5)
    )
    assert not np.array_equal(exact, faulty)
    assert np.array_equal(faulty, again)
    scene = [Scene(0.0, obs[0])]  # where nothing changes nothing can be wrong
    still, wrong = (
        Rollforward(naive(), Simulator(drift, error))(scene, [request], gaussian_noise(1))[0]
        for error in (0.0, 0.5)
    )
    assert np.array_equal(still, wrong)


class Adding:
    """A world in which every action adds to the first two numbers, as a network that knows it would say."""

    def predict(self, obs: Tensor, actions: Tensor, rows: Tensor) -> Tensor:
        runs = torch.arange(actions.shape[1])[None, :, None] < rows[:, None, None]
        moved = (actions * runs).sum(1)
        return obs + torch.nn.functional.pad(0.1 * moved, (0, obs.shape[1] - moved.shape[1]))


def test_learned_dynamics_look_ahead_without_a_simulator_each_robot_through_its_own_rows() -> None:
    """The peer is the simulator of the same world."""
    requests, obs, noise = [None, plan(), plan(delay=1)], observations(3), gaussian_noise(3)
    learned, simulated = Rollforward(naive(), Learned(Adding())), Rollforward(naive(), Simulator(drift))
    assert (learned.privileged, simulated.privileged) == (False, True)
    chunks, _ = learned(obs, requests, noise)
    expected, _ = simulated([Scene(0.1, each) for each in obs], requests, noise)
    np.testing.assert_allclose(chunks, expected, atol=1e-5)
    assert np.array_equal(chunks[0], naive()(obs, [None] * 3, noise)[0][0])


def test_roll_forward_predicts_numbers_and_no_images() -> None:
    obs, request, noise = {"state": observations(1)}, plan(), gaussian_noise(1)
    with pytest.raises(Unsupported, match="numbers, not images"):
        Rollforward(naive(), Learned(Adding()))(obs, [request], noise)
    with pytest.raises(Unsupported, match="numbers, not images"):
        Rollforward(naive(), Simulator(drift))([Scene(0.1, obs)], [request], noise)


def test_a_negative_fault_or_reach_is_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"error=-0\.1"):
        Simulator(drift, -0.1)
    with pytest.raises(InvalidArgument, match="ahead=-1"):
        Rollforward(naive(), Simulator(drift), ahead=-1)


def test_every_strategy_says_the_longest_delay_that_it_can_do_with() -> None:
    told = Watched(max_delay=2)
    assert naive().max_delay is Oracle(lambda *_: np.zeros(0), HORIZON).max_delay is None
    for ahead, longest in ((0, 2), (4, 6), (None, None)):
        assert Rollforward(told, Simulator(drift), ahead).max_delay == longest
    assert Rollforward(naive(), Simulator(drift), 4).max_delay is None


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_delay_to_expect_that_does_not_exist_is_refused(name: str) -> None:
    if name == "conditioned":
        pytest.skip("this policy cannot be told")
    with pytest.raises(InvalidArgument, match=r"expected=.often. .* choose from longest, median"):
        make_strategy(name, GaussianPolicy(), expected="often")


@pytest.mark.parametrize("inner", ["synchronous", "oracle"])
def test_roll_forward_refuses_what_it_cannot_run_inside(inner: str) -> None:
    strategy = (
        Oracle(lambda *_: np.zeros(0), HORIZON)
        if inner == "oracle"
        else make_strategy(inner, GaussianPolicy())
    )
    with pytest.raises(Unsupported, match=f"cannot run {inner} inside"):
        Rollforward(strategy, Simulator(drift))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("ensemble", {"decay": -1.0}, "decay=-1"),
        ("blend", {"keep": 1.5}, r"keep=1.5; .* 0\.\.1"),
        ("bid", {"samples": 0}, "samples=0"),
        ("bid", {"samples": 4, "mode_size": 5}, r"K is 1\.\.N"),
        ("bid", {"mask": "steep"}, "steep"),
        ("seam", {"strength": -0.1}, "strength=-0.1"),
        ("seam", {"rows": 9}, r"0\.\.8"),
        ("warm", {"start": 1.0}, "start=1.0"),
        ("posterior", {"noise_std": 0.0}, "noise_std=0.0"),
        ("posterior", {"iterations": 0}, "iterations=0"),
        ("realtime", {"vjp_every": 0}, "vjp_every=0"),
        ("naive", {"beta": 5.0}, "no option 'beta'; it has num_steps"),
    ],
)
def test_a_value_out_of_range_is_refused_before_anything_runs(
    name: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidArgument, match=message):
        make_strategy(name, GaussianPolicy(), **options)
