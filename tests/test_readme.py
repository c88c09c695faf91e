"""The README does what it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_python_example_runs_and_prints_a_line_for_each_strategy(capsys):
    example, _ = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(example.strip().splitlines()) <= 12
    exec(compile(example, "README.md", "exec"), {})
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed] == ["synchronous", "naive", "realtime"]
    assert all("ticks" in line for line in printed)


def test_the_image_example_is_ten_lines_and_restores_held_out_digits():
    _, example = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len([line for line in example.splitlines() if line.strip()]) <= 10
    torch.manual_seed(0)
    names: dict[str, Any] = {}
    exec(compile(example, "README.md", "exec"), names)
    truth, hole = names["truth"], names["hole"]
    seen, known = hole.forward(truth), hole.forward(names["restored"])
    assert float((seen - known).square().mean().sqrt()) < 0.15
    # what was not seen is drawn from the prior: nearer to the truth than leaving it black
    assert float((names["restored"] - truth).square().mean()) < float(
        (hole.adjoint(seen + 1.0) - 1.0 - truth).square().mean()
    )


def test_the_examples_of_the_images_page_run():
    page = (Path(__file__).parents[1] / "docs" / "images.md").read_text()
    ten_lines, own_operator = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(ten_lines, "images.md", "exec"), names)
    assert names["restored"].shape == (4, 1, 28, 28)
    exec(compile(own_operator, "images.md", "exec"), names)
    assert names["blur_then_mask"].event_in == (3, 64, 64)


def test_the_first_two_commands_are_the_two_that_do_the_set_up():
    (first, *_) = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    commands = [line.split("#")[0].strip() for line in first.strip().splitlines()]
    assert commands == ["make rollout", "make test"]


def test_every_local_link_leads_somewhere():
    links = re.findall(r"\]\(((?!http)[^)#]+)\)", README)
    missing = [link for link in links if not (Path(__file__).parents[1] / link).exists()]
    assert not missing
