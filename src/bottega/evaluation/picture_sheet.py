"""Many pictures on one sheet, with a line under each, for reports and for people's eyes: `pytest tests/evaluation`.

Arrays in, an array out (uint8 [channels, height, width], as an image codec writes it to PNG): no file, no window.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bottega.core.errors import InputError
from bottega.evaluation.picture_distances import Pixels, as_pixels

_CELL = 64  # pixels that a small picture is enlarged to, so that people and labels have room
_GAP = 4
_LINE = 14
_PAPER, _INK = 250, 40  # grey levels


def _enlarged(pictures: Pixels, cell: int) -> Pixels:
    """Repeat each pixel a whole number of times, so that nothing is smoothed over."""
    times = max(1, cell // max(pictures.shape[2:]))
    return pictures.repeat(times, axis=2).repeat(times, axis=3)


def _line(text: str, width: int) -> NDArray[np.uint8]:
    """Draw one line of text, cut with … where it is too long: grey levels [14, width]."""
    from PIL import Image, ImageDraw, ImageFont

    paper = Image.new("L", (width, _LINE), _PAPER)
    draw, font = ImageDraw.Draw(paper), ImageFont.load_default(size=11)
    said = " ".join(text[:200].split())
    if draw.textlength(said, font=font) > width:
        while said and draw.textlength(f"{said}…", font=font) > width:
            said = said[:-1]
        said += "…"
    draw.text((width // 2, 0), said, fill=_INK, font=font, anchor="ma")
    return np.asarray(paper)


def contact_sheet(images: ArrayLike, columns: int = 8, labels: Sequence[str] | None = None, *,
                  cell: int = _CELL) -> Pixels:
    """Lay pictures out in rows, left to right.

    Args:
        images: uint8 or -1 to 1 [n, channels, height, width].
        columns: pictures a row; fewer pictures than that make a narrower sheet.
        labels: a line of text under each picture, cut where it is too long.
        cell: small pictures are enlarged by the whole number that brings them nearest to this size from below.

    Returns:
        uint8 [channels, height, width], on light paper.

    Raises:
        InputError: no column, pictures that cannot be read, or another number of labels.
    """
    pictures = as_pixels(images)
    if columns < 1:
        raise InputError(f"{columns} columns hold no picture", fix="give at least 1")
    if labels is not None and len(labels) != len(pictures):
        raise InputError(f"{len(labels)} labels for {len(pictures)} pictures", fix="give one label a picture")
    pictures = _enlarged(pictures, cell)
    number, channels, height, width = pictures.shape
    columns = min(columns, number)
    line = _LINE if labels is not None else 0
    step_down, step_right = height + line + _GAP, width + _GAP
    sheet = np.full((channels, -(-number // columns) * step_down + _GAP, columns * step_right + _GAP), _PAPER,
                    dtype=np.uint8)
    for place, picture in enumerate(pictures):
        top, left = place // columns * step_down + _GAP, place % columns * step_right + _GAP
        sheet[:, top:top + height, left:left + width] = picture
        if labels is not None:
            sheet[:, top + height:top + height + line, left:left + width] = _line(labels[place], width)
    return sheet


def denoising_strip(frames: Sequence[ArrayLike], columns: int = 8, *, cell: int = _CELL) -> Pixels:
    """Show how pictures came to be: a row a picture, from its first preview to the finished one.

    Args:
        frames: the previews in order, each [n, channels, height, width] (what a sampler yields).
        columns: evenly spread frames shown, the first and the last among them.
        cell: see `contact_sheet`.

    Returns:
        uint8 [channels, height, width].

    Raises:
        InputError: no frames, no column, or frames of different shapes.
    """
    steps = [as_pixels(frame) for frame in frames]
    if not steps or columns < 1 or len({step.shape for step in steps}) > 1:
        raise InputError(f"{len(steps)} frames in {columns} columns make no strip",
                         fix="give at least one frame and one column, all frames of one shape")
    shown = np.unique(np.linspace(len(steps) - 1, 0, min(columns, len(steps))).round().astype(int))
    rows = np.stack([steps[place] for place in shown], axis=1)
    return contact_sheet(rows.reshape(-1, *rows.shape[2:]), len(shown), cell=cell)
