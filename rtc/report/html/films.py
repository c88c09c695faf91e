"""The films of a sweep, put into the page as long as they fit."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rtc.run_folder import VIDEOS
from rtc.serialise import read_json

TYPES = {".gif": "image/gif", ".mp4": "video/mp4"}
LIMIT = 12_000_000
"""Bytes of films in one page; those that do not fit are linked."""


@dataclass(frozen=True)
class Film:
    """A film of `name`. source: a data URL, or None if it is linked: `link` is its path from the page.

    caption: what is in it; its name, unless NAME.json beside it says more.
    """

    name: str
    moving_picture: bool
    source: str | None
    link: str
    caption: str


def find_films(folders: Sequence[Path], beside: Path, limit: int = LIMIT) -> list[Film]:
    """The films in the folders' videos/ by name, embedded while they have at most `limit` bytes together.

    beside: the folder of the page, from which those that do not fit are linked.
    """
    films = []
    for path in sorted(path for folder in folders for path in (folder / VIDEOS).glob("*")):
        if path.suffix not in TYPES:
            continue
        limit -= path.stat().st_size
        source = None
        if limit >= 0:
            source = f"data:{TYPES[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"
        else:
            limit += path.stat().st_size  # a smaller one may still fit
        link = Path(os.path.relpath(path, beside)).as_posix()
        films.append(Film(path.stem, path.suffix == ".mp4", source, link, caption_of(path)))
    return films


def caption_of(path: Path) -> str:
    """What is in the film at `path`: from NAME.json beside it, or else its name."""
    try:
        return str(read_json(path.with_suffix(".json"))["caption"])
    except (OSError, ValueError, TypeError, KeyError):
        return path.stem


def of_task(films: Sequence[Film], task: str, tasks: Sequence[str]) -> list[Film]:
    """The films whose name begins with the task's, and with no longer one's."""

    def owner(film: Film) -> str | None:
        return max((name for name in tasks if film.name.startswith(name)), key=len, default=None)

    return [film for film in films if owner(film) == task]
