"""Films side by side: a video, and a strip of its moments.

```
video    | realtime   d = 4 (80 ms)   0.62 s | naive ... | ...     pictures of the same moment
         o frozen  o planned   a note                              what the dots are
strip    0.3 s   0.6 s   0.9 s ...                                 one row a film, one column a moment
```
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import imageio.v2 as imageio
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from rtc.errors import InvalidArgument
from rtc.report.film import Film
from rtc.report.palette import colour
from rtc.runtime.latency import ConstantDelay
from rtc.serialise import whole_file

CAPTION = 60  # pixels above every picture of the video
FOOT = 30  # and below all of them
SMALLEST = 11  # letters, in pixels
HOLD_SECONDS = 1.5  # that the last moment stays
QUALITIES = (8, 6, 4, 2)  # of ffmpeg, from fine to coarse
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
GOOD, BAD, INK, FAINT = "#007A55", "#B03A00", "#111111", "#666666"


def write_video(
    films: Sequence[Film],
    path: Path,
    *,
    speed: float = 0.5,
    columns: int | None = None,
    note: str = "",
    limit: int | None = None,
) -> None:
    """Write an mp4 of `films` (1 or more, pictures of one even size); `speed` 1 is real time.

    columns: films in a row, by default all. note: stands below. limit: bytes that it should not exceed; it is
    written coarser until it does not, or as coarse as can still be looked at.
    """
    fps = speed / _one(films).tick_seconds
    with whole_file(path) as temporary:
        for quality in QUALITIES if limit else QUALITIES[:1]:
            writer = imageio.get_writer(
                temporary, fps=fps, quality=quality, macro_block_size=2, ffmpeg_log_level="error"
            )
            try:
                for picture in _pictures(films, round(HOLD_SECONDS * fps), columns or len(films), note):
                    writer.append_data(picture)
            finally:
                writer.close()
            if limit is None or temporary.stat().st_size <= limit:
                break


def _pictures(films: Sequence[Film], held: int, columns: int, note: str) -> Iterator[np.ndarray]:
    """All of a video; the last moment is `held` for so many pictures more."""
    picture = np.zeros(0)
    for index in range(max(len(film.frames) for film in films)):
        picture = page(films, index, columns, note)
        yield picture
    yield from [picture] * held


def write_gif(films: Sequence[Film], path: Path, *, width: int = 320, every: int = 3) -> None:
    """Write a small GIF of `films` side by side in half of real time: every `every`th tick, without end.

    width: pixels of each film. One palette for all pictures keeps it small and still.
    """
    last = max(len(film.frames) for film in films) - 1
    pictures = []
    for index in [*range(0, last, every), last]:
        wide = Image.fromarray(np.concatenate([panel(film, index) for film in films], axis=1))
        height = round(wide.height * width * len(films) / wide.width)
        pictures.append(wide.resize((width * len(films), height), Image.Resampling.LANCZOS))
    shown = pictures[:: max(1, len(pictures) // 6)]
    several = Image.fromarray(np.concatenate([np.asarray(picture) for picture in shown]))
    palette = several.quantize(255, Image.Quantize.MEDIANCUT, kmeans=1)
    small = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    milliseconds = round(2000 * every * _one(films).tick_seconds)
    durations = [milliseconds] * (len(small) - 1) + [round(1000 * HOLD_SECONDS)]
    with whole_file(path) as temporary:
        small[0].save(
            temporary,
            "GIF",
            save_all=True,
            append_images=small[1:],
            duration=durations,
            loop=0,
            optimize=True,
        )


def write_strip(films: Sequence[Film], path: Path, *, moments: int = 5, width: int = 320) -> None:
    """Write a PNG of `moments` >= 2 pictures of every film, evenly spaced.

    They reach to the end of the first success, or of the longest film if there is none.
    """
    successes = [len(film.frames) for film in films if film.record["success"]]
    last = (min(successes) if successes else max(len(film.frames) for film in films)) - 1
    indices = [round(last * (moment + 1) / moments) for moment in range(moments)]
    height = round(width * _one(films).frame(0).shape[0] / _one(films).frame(0).shape[1])
    left, top, gap = 132, 28, 4
    size = (left + moments * (width + gap), top + len(films) * (height + gap))
    strip = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(strip)
    for column, index in enumerate(indices):
        middle = left + column * (width + gap) + width // 2
        draw.text((middle, top // 2), f"{index * films[0].tick_seconds:.2f} s", INK, _font(16), "mm")
    for row, film in enumerate(films):
        y = top + row * (height + gap)
        _label(draw, film, y + height // 2)
        for column, index in enumerate(indices):
            strip.paste(_still(film, index, (width, height)), (left + column * (width + gap), y))
    with whole_file(path) as temporary:
        strip.save(temporary)


def page(films: Sequence[Film], index: int, columns: int, note: str) -> UInt8[np.ndarray, "height width 3"]:
    """Picture `index` of all films, `columns` in a row, above what their dots mean and a note."""
    panels = [panel(film, index) for film in films]
    panels += [np.full_like(panels[0], 255)] * (-len(panels) % columns)
    rows = [
        np.concatenate(panels[start : start + columns], axis=1) for start in range(0, len(panels), columns)
    ]
    return np.concatenate([*rows, _foot(films, rows[0].shape[1], note)])


def _foot(films: Sequence[Film], width: int, note: str) -> UInt8[np.ndarray, "height width 3"]:
    legend = {name: colour for film in films for name, colour in film.legend.items()}
    if not (legend or note):
        return np.zeros((0, width, 3), np.uint8)
    foot = Image.new("RGB", (width, FOOT), "white")
    draw, left, middle = ImageDraw.Draw(foot), 16, FOOT // 2
    for name, dot in legend.items():
        draw.ellipse((left, middle - 6, left + 12, middle + 6), dot)
        draw.text((left + 18, middle), name, INK, _font(16), "lm")
        left += 36 + round(draw.textlength(name, _font(16)))
    text, font = _fitted(draw, note, width - left - 12, 16)
    draw.text((left, middle), text, FAINT, font, "lm")
    return np.asarray(foot)


def panel(film: Film, index: int) -> UInt8[np.ndarray, "height width 3"]:
    """Picture `index` of a film under its caption: strategy, delay, time, and in the end the outcome."""
    frame = film.frame(index)
    image = Image.new("RGB", (frame.shape[1], frame.shape[0] + CAPTION), "white")
    image.paste(Image.fromarray(frame), (0, CAPTION))
    draw = ImageDraw.Draw(image)
    right = image.width - 12
    seconds = min(index, len(film.frames) - 1) * film.tick_seconds
    draw.rectangle((0, 0, 5, CAPTION - 1), colour(film.strategy))
    label, font = _fitted(draw, film.strategy, right - 16 - 90, 22)
    draw.text((16, 19), label, colour(film.strategy), font, "lm")
    draw.text((16, 44), _delay(film), FAINT, _font(15), "lm")
    draw.text((right, 19), f"{seconds:.2f} s", INK, _font(22), "rm")
    if film.ended(index):
        draw.text((right, 44), film.outcome, GOOD if film.record["success"] else BAD, _font(17), "rm")
    return np.asarray(image)


def _label(draw: ImageDraw.ImageDraw, film: Film, y: int) -> None:
    draw.text((8, y - 24), film.strategy, colour(film.strategy), _font(20), "lm")
    draw.text((8, y), _delay(film), FAINT, _font(13), "lm")
    draw.text((8, y + 20), film.outcome, GOOD if film.record["success"] else BAD, _font(15), "lm")


def _still(film: Film, index: int, size: tuple[int, int]) -> Image.Image:
    """A picture of the strip; paler, with what happened, when the episode was over before it."""
    image = Image.fromarray(film.frame(index)).resize(size, Image.Resampling.LANCZOS)
    if not film.ended(index):
        return image
    image = Image.blend(image, Image.new("RGB", size, "white"), 0.35)
    seconds = (len(film.frames) - 1) * film.tick_seconds
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, size[1] - 30, size[0], size[1]), "white")
    text = f"{film.outcome} at {seconds:.2f} s"
    draw.text((10, size[1] - 15), text, GOOD if film.record["success"] else BAD, _font(18), "lm")
    return image


def _delay(film: Film) -> str:
    if isinstance(film.delay, ConstantDelay):
        return f"d = {film.delay} ({film.delay.ticks * film.tick_seconds * 1000:.0f} ms)"
    return f"d = {film.delay}"


def _font(size: int) -> Font:
    return ImageFont.load_default(size)


def _fitted(draw: ImageDraw.ImageDraw, text: str, width: float, size: int) -> tuple[str, Font]:
    """`text` and a font of at most `size` in which it fits; what does not fit in the smallest is cut."""
    for each in range(size, SMALLEST, -1):
        if draw.textlength(text, _font(each)) <= width:
            return text, _font(each)
    font = _font(SMALLEST)
    if draw.textlength(text, font) <= width:
        return text, font
    while text and draw.textlength(f"{text}…", font) > width:
        text = text[:-1]
    return f"{text}…", font


def _one(films: Sequence[Film]) -> Film:
    if not films:
        raise InvalidArgument("no film to show; give at least 1")
    return films[0]
