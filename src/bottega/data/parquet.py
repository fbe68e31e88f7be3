"""Parquet a row group at a time: every file here is written in groups of bounded size, so that reading is bounded too.

Used by every step of `bottega data prepare` and by `Dataset`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

GROUP_ROWS, GROUP_CHARACTERS = 1024, 2 << 20  # a row group ends at whichever comes first


def row_groups(path: Path, columns: list[str]) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of each row group, with the given columns."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            yield file.read_row_group(group, columns=columns).to_pylist()
