"""A contact sheet: the truth, the measurement, every restoration, and what is wrong with each.

```
  truth      measurement   pigdm          ddrm           ...
                           24.1 dB .93    23.8 dB .92
  (scale)                  |error|        |error|        ...
```
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from rtc.serialise import whole_file

COLUMNS = 6
ERROR_SCALE = 0.5
"""The error that is drawn in full colour, on images in [0, 1]."""


@dataclass(frozen=True)
class Panel:
    """One restoration. image: [height, width] or [height, width, 3] in [0, 1]; lines: set under it."""

    title: str
    image: NDArray[np.floating]
    lines: Sequence[str]


def write_contact_sheet(
    path: Path,
    heading: str,
    truth: NDArray[np.floating],
    measurement: NDArray[np.floating],
    panels: Sequence[Panel],
) -> None:
    """Draw a PNG file: truth and measurement first, errors under the images."""
    cells = [Panel("truth", truth, []), Panel("measurement", measurement, []), *panels]
    columns = min(COLUMNS, len(cells))
    rows = -(-len(cells) // columns)
    figure = Figure(figsize=(1.9 * columns + 0.3, 4.65 * rows + 0.5), layout="constrained")
    figure.suptitle(heading, fontsize=11)
    axes = figure.subplots(2 * rows, columns, squeeze=False)
    for empty in axes.flat:
        empty.set_axis_off()
    drawn = None
    for index, panel in enumerate(cells):
        row, column = divmod(index, columns)
        above, below = axes[2 * row, column], axes[2 * row + 1, column]
        _picture(above, panel)
        if index > 1:
            error = np.abs(panel.image - truth)
            error = error.max(axis=2) if error.ndim == 3 else error
            drawn = below.imshow(error, cmap="magma", vmin=0.0, vmax=ERROR_SCALE, interpolation="nearest")
    if drawn is not None:
        where = axes[1, 0].inset_axes((0.08, 0.5, 0.95, 0.06))
        bar = figure.colorbar(drawn, cax=where, orientation="horizontal", extend="max")
        bar.set_label(
            "error: |restored - truth|" + (", largest channel" if truth.ndim == 3 else ""), fontsize=8
        )
        bar.ax.tick_params(labelsize=7)
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=130, format="png")


def _picture(axes: Axes, panel: Panel) -> None:
    shown = np.clip(panel.image, 0.0, 1.0)
    axes.imshow(shown, cmap="gray", vmin=0.0, vmax=1.0, interpolation="nearest")
    axes.set_title(panel.title, fontsize=10, fontweight="bold", pad=3)
    if panel.lines:
        axes.text(
            0.5, -0.03, "\n".join(panel.lines), transform=axes.transAxes, ha="center", va="top", fontsize=7.5
        )
