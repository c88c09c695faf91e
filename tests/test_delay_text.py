"""Delay models as users write them: read as they were meant, there and back; what is none is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from delays import delay_texts
from hypothesis import given

from rtc.errors import InvalidArgument
from rtc.runtime.delay_text import EXAMPLES, parse_delay
from rtc.runtime.latency import (
    BurstyDelay,
    ConstantDelay,
    DelayModel,
    LogNormalDelay,
    SpikyDelay,
    TraceDelay,
    UniformDelay,
)


@pytest.mark.parametrize(
    ("text", "model"),
    [
        ("4", ConstantDelay(4)),
        ("uniform:2:6", UniformDelay(2, 6)),
        ("lognormal:4:0.5", LogNormalDelay(4, 0.5)),
        ("spiky:2:8:0.1", SpikyDelay(2, 8, 0.1)),
        ("bursty:2:8:0.05:0.3", BurstyDelay(2, 8, 0.05, 0.3)),
    ],
)
def test_a_text_is_its_model_and_the_model_says_it_again(text: str, model: DelayModel) -> None:
    assert parse_delay(text) == parse_delay(f" {text} ") == model
    assert str(model) == text


@given(text=delay_texts)
def test_no_digit_is_lost_on_the_way_there_and_back(text: str) -> None:
    model = parse_delay(text)
    assert parse_delay(str(model)) == model


def test_a_trace_is_read_from_its_file_and_remembers_it(tmp_path: Path) -> None:
    file = tmp_path / "a:b.txt"  # a colon is as good as any other letter in a file's name
    file.write_text("3\n0\n\n 5 \n")
    model = parse_delay(f"trace:{file}")
    assert model == TraceDelay([3, 0, 5], str(file))
    assert str(model) == f"trace:{file}"
    assert "3, 0, 5" in str(TraceDelay([3, 0, 5]))


@pytest.mark.parametrize(
    "text",
    [
        *("", "four", "4.5", "4:5", "fair", "trace", "trace:", "lognormal:4", "spiky:2:8:often"),
        *("uniform", "uniform:2", "uniform:2:6:8", "uniform:2:x", "uniform:2.5:6", "Uniform:2:6"),
    ],
)
def test_what_is_no_delay_is_refused_with_all_forms(text: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        parse_delay(text)
    message = str(refusal.value)
    assert repr(text) in message
    assert all(example in message for example in EXAMPLES)
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("-1", "0 or more"),
        ("uniform:6:2", "low=6 is more than high=2"),
        ("lognormal:0:0.5", "above 0"),
        ("lognormal:4:nan", "0..5"),
        ("spiky:2:8:1.5", "chance=1.5"),
        ("bursty:2:8:0:0", "at least one must be above 0"),
    ],
)
def test_a_number_out_of_range_is_named(text: str, reason: str) -> None:
    with pytest.raises(InvalidArgument, match=rf"delay '{text}': .*{reason}"):
        parse_delay(text)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"3\n-1\n", "line 2: '-1'"),
        (b"3\nx\n", "line 2: 'x'"),
        (b"2.5", "line 1: '2.5'"),
        (b"9" * 5000, "line 1"),
        (b"\n\n", "is empty"),
        (b"\xff\xfe", "no text"),
        (None, "No such file"),
    ],
)
def test_a_trace_that_cannot_be_read_says_where_and_why(
    tmp_path: Path, content: bytes | None, reason: str
) -> None:
    if content is not None:
        (tmp_path / "trace.txt").write_bytes(content)
    with pytest.raises(InvalidArgument, match=rf"trace\.txt.*{reason}"):
        parse_delay(f"trace:{tmp_path}/trace.txt")
    with pytest.raises(InvalidArgument, match="directory"):
        parse_delay(f"trace:{tmp_path}")
