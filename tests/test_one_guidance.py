"""Robots and images are guided by one function: the same object, run by both wings."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from types import CodeType
from typing import Any

import numpy as np
import torch
from point_mass import GaussianPolicy
from torch import Generator

import rtc
import rtc.guidance.pigdm
import rtc.inverse.pokle
import rtc.runtime.strategies.realtime
from rtc.exact import GaussianPrior
from rtc.inverse.methods.problem import Problem
from rtc.inverse.methods.table import METHODS
from rtc.measurement import LinearMeasurement
from rtc.operators import Mask
from rtc.runtime.controller import ChunkController
from rtc.runtime.strategies import make_strategy

GUIDE = rtc.guidance.pigdm.guide
HORIZON = 8


def calls_of(code: CodeType, function: Callable[[], Any]) -> int:
    """How often the interpreter enters `code` while `function` runs."""
    count = 0

    def watch(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        count += event == "call" and frame.f_code is code

    sys.setprofile(watch)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count


def execute_a_chunk() -> None:
    controller = ChunkController(np.full((HORIZON, 2), 0.4, np.float32))
    strategy = make_strategy("realtime", GaussianPolicy(), num_steps=5)
    noise = torch.randn(1, HORIZON, 2, generator=Generator().manual_seed(0))
    strategy(np.full((1, 6), 0.5, np.float32), [controller.request(3)], noise)


def restore_an_image(method: str) -> Callable[[], Any]:
    prior = GaussianPrior(torch.zeros(9), 0.5 * torch.eye(9))
    measurement = LinearMeasurement(Mask(torch.arange(9) % 2), torch.ones(1, 4), 0.01)
    problem = Problem(prior=prior, measurement=measurement, shape=(1, 9), num_steps=5, data_std=0.7)
    return lambda: METHODS[method](problem)


def test_both_wings_hold_the_same_function_object() -> None:
    assert rtc.runtime.strategies.realtime.guide is GUIDE
    assert rtc.inverse.pokle.pigdm is rtc.guidance.pigdm.pigdm  # which is `guide` unclipped
    assert rtc.guide is GUIDE


def test_a_chunk_and_an_image_run_through_it() -> None:
    code = inspect.unwrap(GUIDE).__code__
    assert calls_of(code, execute_a_chunk) == 1 + 1  # once more when the strategy checks its own arguments
    for method in ("pigdm", "pokle-1", "pokle-2", "pokle-3"):
        assert calls_of(code, restore_an_image(method)) == 1, method
    assert calls_of(code, restore_an_image("ddrm")) == 0
