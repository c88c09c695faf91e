"""Guards: a guided chunk that is unfit gives way to the unguided one, alone, counted, and paid for."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from point_mass import GaussianPolicy, PointMass
from test_strategy_family import gaussian_noise, observations, plan
from torch import Tensor

from rtc.prior import Prior, from_denoiser
from rtc.runtime.controller import Request
from rtc.runtime.latency import ConstantDelay
from rtc.runtime.rollout import rollout
from rtc.runtime.strategies import make_strategy
from rtc.runtime.strategies.base import Flow
from rtc.runtime.strategies.guard import FAR, RANGE, excess

GUIDED = ["realtime", "posterior"]


class Touchy(GaussianPolicy):
    """A sound policy whose derivative is `fault` times the right one where the first number is negative."""

    def __init__(self, fault: float) -> None:
        super().__init__()
        self.fault = fault

    def condition(self, obs: Tensor) -> Prior:  # pyright: ignore[reportIncompatibleMethodOverride]
        exact, factor = super().condition(obs), torch.where(obs[:, 0] < 0, self.fault, 1.0)[:, None, None]
        return from_denoiser(lambda x, tau: Faulty.apply(exact.denoise(x, tau), factor))  # pyright: ignore


class Faulty(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x1_hat: Tensor, factor: Tensor) -> Tensor:
        return x1_hat.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        (factor,) = ctx.saved_tensors
        return gradient * factor, None


def both(policy: GaussianPolicy, name: str, **options: Any):
    """Chunks of two episodes, of which guidance may fail in the first, and what they cost; and naive's."""
    obs = observations(2)
    obs[:, 0] = [-0.1, 0.1]
    requests: list[Request | None] = [plan(seed=1), plan(seed=2)]
    chunks, info = make_strategy(name, policy, **options)(obs, requests, gaussian_noise(2))
    naive, _ = make_strategy("naive", policy)(obs, requests, gaussian_noise(2))
    assert info.redrawn is not None
    assert info.replaced is not None
    return chunks, info, info.redrawn.tolist(), info.replaced.tolist(), naive


@pytest.mark.parametrize(
    ("name", "fault"),
    [*((name, fault) for name in GUIDED for fault in (math.nan, math.inf)), ("realtime", 1e4)],
)
def test_a_chunk_that_guidance_breaks_is_replaced_by_the_unguided_one(name: str, fault: float) -> None:
    chunks, info, redrawn, replaced, naive = both(Touchy(fault), name)
    assert redrawn == replaced == [True, False]
    assert np.array_equal(chunks[0], naive[0])
    assert not np.array_equal(chunks[1], naive[1])
    assert info.nonfinite_step.tolist() == [-1, -1]


@pytest.mark.parametrize("name", GUIDED)
def test_a_sound_guided_chunk_is_left_alone_and_costs_nothing_more(name: str) -> None:
    chunks, info, redrawn, replaced, naive = both(Touchy(1.0), name)
    assert redrawn == replaced == [False, False]
    assert not np.array_equal(chunks, naive)
    assert info.network_calls == 5


def test_guidance_that_leads_away_from_the_plan_is_undone() -> None:
    chunks, _, redrawn, replaced, naive = both(Touchy(-1.0), "realtime")
    assert redrawn[0]
    assert replaced[0]
    assert np.array_equal(chunks[0], naive[0])


def test_guidance_too_weak_to_reach_the_plan_stays_if_it_comes_nearer() -> None:
    policy = Touchy(1.0)
    chunks, _, redrawn, replaced, naive = both(policy, "realtime", max_weight=0.05)
    errors = [
        float(np.sqrt(np.mean((each[1, :3] - plan(seed=2).frozen) ** 2))) / policy.scale
        for each in (chunks, naive)
    ]
    assert FAR < errors[0] < errors[1]
    assert redrawn[1]
    assert not replaced[1]


def test_a_first_chunk_beside_guided_ones_is_nobodys_business() -> None:
    class Wild(Touchy):
        def denormalize(self, actions: Tensor) -> Tensor:
            return (actions * self.scale).clamp(-1e-3, 1e-3)  # everything is far beyond these actions

    naive, strategy = (make_strategy(name, Wild(1.0)) for name in ("naive", "realtime"))
    assert isinstance(naive, Flow)
    noise = 8.0 * gaussian_noise(2)
    prior = naive.condition(observations(2))
    assert (excess(naive, naive.flow(prior, noise, naive.times)[0]) > RANGE).all()
    _, info = strategy(observations(2), [plan(seed=1), None], noise)
    assert info.redrawn is not None
    assert not info.redrawn[1]


def test_the_range_is_counted_from_the_edge_of_the_action_space() -> None:
    naive = make_strategy("naive", GaussianPolicy())
    assert isinstance(naive, Flow)
    chunks = torch.zeros(2, 8, 2)
    chunks[1, 3, 0] = -1.0 / GaussianPolicy.scale - RANGE
    assert excess(naive, chunks).tolist() == [0.0, RANGE]


def test_a_rollout_counts_what_was_replaced_and_pays_for_what_was_drawn_twice() -> None:
    def episode(fault: float):
        strategy = make_strategy("realtime", Touchy(fault))
        return rollout(PointMass(), strategy, execution_horizon=2, delay=ConstantDelay(2), seed=0)

    broken, sound = episode(math.nan), episode(1.0)
    assert sound.replaced_chunks == 0
    assert sound.network_calls == 5 * len(sound.chunks)
    assert broken.replaced_chunks > 0
    assert broken.network_calls == 5 * (len(broken.chunks) + broken.replaced_chunks)
