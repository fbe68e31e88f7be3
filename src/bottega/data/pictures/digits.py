"""scikit-learn's bundled handwritten digits, 8 x 8 grey: `bottega train recipes/digits-vae.yaml` learns them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bottega.core.errors import MissingExtraError
from bottega.core.files import digest_json
from bottega.core.lineage import Licence, code_digest
from bottega.data.pictures.record import Facts, Fault, Picture, PictureCodec

NUMERALS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


class DigitsSource:
    """1,797 digits by 43 writers; see `Source`.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """

    name = "digits"
    licence = Licence(spdx="CC-BY-4.0", evidence="stated by the UCI repository for Optical Recognition of Handwritten "
                                                 "Digits (Alpaydin & Kaynak 1998); bundled with scikit-learn")

    def __init__(self, codec: PictureCodec) -> None:
        try:
            from sklearn.datasets import load_digits
        except ImportError:
            raise MissingExtraError("images", "the built-in pictures 'digits'") from None
        self._digits = load_digits()

    def identity(self) -> str:
        """See `Source`."""
        return digest_json([code_digest(), self._digits.images.sum(), len(self._digits.images)])

    def count(self) -> int | None:
        """See `Source`."""
        return len(self._digits.images)

    def pictures(self) -> Iterator[Picture | Fault]:
        """See `Source`."""
        for number, (image, digit) in enumerate(zip(self._digits.images, self._digits.target, strict=True)):
            pixels = np.rint(image[None] * (255 / 16)).astype(np.uint8)
            yield Picture(f"builtin:digits/{number}", pixels,
                          Facts(str(digit), f"a handwritten {NUMERALS[int(digit)]}"))
