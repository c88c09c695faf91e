"""What `auto` runs for a policy: the strategy that a sweep found best, noted beside the policy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rtc.cli.strategy_text import StrategyText, parse_strategy
from rtc.errors import CheckpointError, InvalidArgument
from rtc.runtime.strategies.auto import Auto
from rtc.serialise import read_json, write_json

CHOICE = "auto.json"


def write_choice(policy: Path, strategy: str, found: dict[str, Any]) -> Path:
    """Note `strategy` for the policy in a folder, and what it was `found` by; the file."""
    path = policy / CHOICE
    write_json(path, {"strategy": strategy} | found)
    return path


def read_choice(policy: Path) -> StrategyText | None:
    """What was noted for the policy in a folder; None if nothing was.

    Raises CheckpointError for a file that is damaged or names what this rtc does not have, or auto itself.
    """
    path = policy / CHOICE
    if not path.exists():
        return None
    remedy = "write it again with `rtc choose`, or remove it"
    try:
        strategy = parse_strategy(str(read_json(path)["strategy"]))
    except InvalidArgument as error:
        raise CheckpointError(f"{path}: {error}; {remedy}") from None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); {remedy}") from None
    if strategy.name == Auto.name:
        raise CheckpointError(f"{path} names auto itself; {remedy}")
    return strategy
