"""Many pictures on one sheet, with a text under each, for reports and for people's eyes: `pytest tests/evaluation`.

Arrays in, an array out (uint8 [channels, height, width], as an image codec writes it to PNG): no file, no window.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bottega.core.errors import InputError
from bottega.evaluation.picture_distances import Pixels, as_pixels

if TYPE_CHECKING:
    from PIL import ImageFont

_CELL = 64  # pixels that a small picture is enlarged to, so that people and labels have room
_GAP = 4
_LINE, _LINES = 14, 3  # height of a line, lines a label
_PAPER, _INK = 250, 40  # grey levels


def _enlarged(pictures: Pixels, cell: int) -> Pixels:
    """Repeat each pixel a whole number of times, so that nothing is smoothed over."""
    times = max(1, cell // max(pictures.shape[2:]))
    return pictures.repeat(times, axis=2).repeat(times, axis=3)


def _wrapped(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> list[str]:
    """Return a text in at most three lines, cut with … where it is too long."""
    lines, words = [""], text[:200].split()
    while words:
        longer = f"{lines[-1]} {words[0]}".strip()
        if font.getlength(longer) <= width:
            lines[-1] = longer
        elif lines[-1] and len(lines) < _LINES:
            lines.append("")
            continue
        else:
            while longer and font.getlength(f"{longer}…") > width:
                longer = longer[:-1]
            lines[-1] = f"{longer}…"
            break
        words.pop(0)
    return lines


def _captions(labels: Sequence[str], width: int) -> list[NDArray[np.uint8]]:
    """Draw each label: grey levels [height, width], all of the height that the longest needs."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(size=11)
    texts = [_wrapped(label, width, font) for label in labels]
    drawn = []
    for lines in texts:
        paper = Image.new("L", (width, _LINE * max(map(len, texts))), _PAPER)
        for row, line in enumerate(lines):
            ImageDraw.Draw(paper).text((width // 2, row * _LINE), line, fill=_INK, font=font, anchor="ma")
        drawn.append(np.asarray(paper))
    return drawn


def contact_sheet(images: ArrayLike, columns: int = 8, labels: Sequence[str] | None = None, *,
                  cell: int = _CELL) -> Pixels:
    """Lay pictures out in rows, left to right.

    Args:
        images: uint8 or -1 to 1 [n, channels, height, width].
        columns: pictures a row; fewer pictures than that make a narrower sheet.
        labels: a text under each picture, in up to three lines.
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
    captions = _captions(labels, width) if labels is not None else []
    line = len(captions[0]) if captions else 0
    step_down, step_right = height + line + _GAP, width + _GAP
    sheet = np.full((channels, -(-number // columns) * step_down + _GAP, columns * step_right + _GAP), _PAPER,
                    dtype=np.uint8)
    for place, picture in enumerate(pictures):
        top, left = place // columns * step_down + _GAP, place % columns * step_right + _GAP
        sheet[:, top:top + height, left:left + width] = picture
        if captions:
            sheet[:, top + height:top + height + line, left:left + width] = captions[place]
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
