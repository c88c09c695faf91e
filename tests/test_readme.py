"""The README does what it says."""

from __future__ import annotations

import re
from pathlib import Path

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_python_example_runs_and_prints_a_line_for_each_strategy(capsys):
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(example.strip().splitlines()) <= 12
    exec(compile(example, "README.md", "exec"), {})
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed] == ["synchronous", "naive", "realtime"]
    assert all("ticks" in line for line in printed)


def test_the_first_two_commands_are_the_two_that_do_the_set_up():
    (first, *_) = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    commands = [line.split("#")[0].strip() for line in first.strip().splitlines()]
    assert commands == ["make rollout", "make test"]


def test_every_local_link_leads_somewhere():
    links = re.findall(r"\]\(((?!http)[^)#]+)\)", README)
    missing = [link for link in links if not (Path(__file__).parents[1] / link).exists()]
    assert not missing
