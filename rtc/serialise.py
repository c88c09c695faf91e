"""Files that are there whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, with its suffix; it becomes `path` if the block raises nothing.

    A reader sees the old file or the new one, and what is interrupted leaves the old one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, document: Any, indent: int | None = 1) -> None:
    """Write `document` as strict JSON (NaN is a ValueError), whole or not at all."""
    text = json.dumps(document, indent=indent, allow_nan=False)
    with whole_file(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """The document in `path`; raises OSError or json.JSONDecodeError (a ValueError)."""
    return json.loads(path.read_text(encoding="utf-8"))
