"""The interface between a raw medium and tensors, saved with every model."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class Codec(Protocol):
    """Raw medium to tensors and back; a bundle carries its files."""

    kind: str

    def save(self, folder: Path) -> None:
        """Write the codec's files into a folder."""

    @property
    def digest(self) -> str:
        """SHA-256 over what the codec does: equal digests encode equally."""
