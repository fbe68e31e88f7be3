"""Contact sheets: every picture stands whole at its place, labels fit under it."""

import numpy as np
import pytest

from bottega.core.errors import InputError
from bottega.evaluation.picture_sheet import contact_sheet, denoising_strip


def flat(*levels: int, channels: int = 1, size: int = 8) -> np.ndarray:
    return np.stack([np.full((channels, size, size), level, np.uint8) for level in levels])


def test_pictures_stand_in_rows_enlarged_by_whole_numbers() -> None:
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (5, 3, 10, 7), dtype=np.uint8)
    sheet = contact_sheet(pictures, 2)
    assert sheet.dtype == np.uint8
    assert sheet.shape == (3, 3 * (60 + 4) + 4, 2 * (42 + 4) + 4)
    for place, picture in enumerate(pictures):
        top, left = place // 2 * 64 + 4, place % 2 * 46 + 4
        assert np.array_equal(sheet[:, top:top + 60:6, left:left + 42:6], picture)
    assert (sheet[:, -64:, -46:] == 250).all(), "an empty place is paper"


def test_large_pictures_keep_their_size_and_few_make_a_narrow_sheet() -> None:
    assert contact_sheet(flat(0, 1, size=100), 8).shape == (1, 108, 212)


def test_labels_are_drawn_under_their_pictures_and_cut_to_fit() -> None:
    labels = ["three", "a red umbrella above a blue star on a grey ground", "اسم 木 ✓", ""]
    sheet = contact_sheet(flat(200, 200, 200, 200, channels=3), 4, labels)
    assert sheet.shape == (3, 64 + 3 * 14 + 8, 4 * 68 + 4), "the longest label takes three lines"
    under = sheet[0, 68:68 + 42]
    written = [(under[:, 4 + 68 * place:68 + 68 * place] < 200).sum() for place in range(4)]
    assert min(written[:3]) > 10
    assert written[3] == 0
    gaps = [under[:, 68 * place:4 + 68 * place] for place in range(5)]
    assert all((gap == 250).all() for gap in gaps), "no label reaches beyond its picture"
    lines = [under[14 * row:14 * row + 14, 72:136].min() < 200 for row in range(3)]
    assert lines == [True] * 3
    assert contact_sheet(flat(1, 2), 2, ["one", "two"]).shape == (1, 64 + 14 + 8, 2 * 68 + 4)
    assert contact_sheet(flat(1), 1, ["W" * 5000]).shape == (1, 64 + 14 + 8, 68 + 4), "a word is cut, not carried on"


def test_a_strip_shows_first_to_last_frame_of_each_picture() -> None:
    frames = [flat(step, 100 + step) for step in range(10)]
    strip = denoising_strip(frames, 4)
    assert strip[0, 10, [10 + 68 * place for place in range(4)]].tolist() == [0, 3, 6, 9]
    assert strip[0, 78, [10 + 68 * place for place in range(4)]].tolist() == [100, 103, 106, 109]
    assert denoising_strip(frames[:2], 8).shape[2] == 2 * 68 + 4
    assert denoising_strip(frames, 1)[0, 10, 10] == 9, "one column shows the result"


def test_what_makes_no_sheet_is_refused() -> None:
    with pytest.raises(InputError, match="0 columns"):
        contact_sheet(flat(0), 0)
    with pytest.raises(InputError, match="1 labels for 2"):
        contact_sheet(flat(0, 1), 2, ["one"])
    with pytest.raises(InputError, match="0 frames"):
        denoising_strip([])
    with pytest.raises(InputError, match="no strip"):
        denoising_strip([flat(0), flat(0, 1)])
