"""Pictures of a folder, a zip archive or Parquet files, with what stands around them.

Exercised by `pytest tests/data/test_pictures.py`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bottega.core.errors import DataError
from bottega.core.lineage import Licence
from bottega.data.pictures.caption_tables import CAPTION_KEYS, LABEL_KEYS, class_names, first, is_table, tidy
from bottega.data.pictures.captions import describe
from bottega.data.pictures.record import (
    OTHER_SUFFIXES,
    PICTURE_SUFFIXES,
    ROWS_SUFFIX,
    SPLIT_NAMES,
    Facts,
    Fault,
    Picture,
    Stated,
)
from bottega.data.pictures.trees import FILE_BYTES, FolderTree, Tree, Unread, ZipTree

_IMAGE_KEYS = ("image", "img", "picture", "png", "jpg", "jpeg", "bytes")
_SPLIT_NAME = re.compile("(" + "|".join(SPLIT_NAMES) + r")(?![^\W_])", re.IGNORECASE)
_ROWS_AT_ONCE = 64


class FilesSource:
    """A folder, a zip archive, a folder in an archive, a single picture or a Parquet file; see `Source`."""

    def __init__(self, path: Path, inside: str, name: str, licence: Licence, text_field: str) -> None:
        self.name, self.licence, self._text_field = name, licence, text_field
        self._tree: FolderTree | ZipTree = ZipTree(path, inside) if is_archive(path) else FolderTree(path)

    def identity(self) -> str:
        """See `Source`."""
        return self._tree.identity()

    def count(self) -> int | None:
        """See `Source`."""
        if any(name.lower().endswith(ROWS_SUFFIX) for name in self._tree.names):
            return None
        return sum(name.lower().endswith(PICTURE_SUFFIXES) for name in self._tree.names)

    def pictures(self) -> Iterator[Picture | Fault]:
        """See `Source`."""
        tree: Tree = self._tree
        yield from tree.faults
        described, faults = describe(tree, self.name, self._text_field)
        yield from faults
        for name in sorted(tree.names, key=_chance):
            origin = f"{self.name}/{name}" if name != self.name else name
            if name in described:
                try:
                    data = tree.read(name)
                except Unread as error:
                    yield Fault(origin, error.reason, error.detail)
                else:
                    yield from (Picture(origin, data, facts) for facts in described[name])
            elif name.lower().endswith(ROWS_SUFFIX) and not is_table(tree, name):
                if isinstance(tree, FolderTree):
                    yield from read_parquet(tree.path_of(name), origin, self._text_field, _split_of(name))
                else:
                    yield Fault(origin, "unsupported-format", "Parquet inside a zip archive is not read: unpack it")
            elif name.lower().endswith(".zip"):
                yield Fault(origin, "unsupported-format", "an archive inside the source: name it as another source")
            elif name.lower().endswith(OTHER_SUFFIXES):
                yield Fault(origin, "unsupported-format", "convert it to PNG, JPEG or WebP")


def _chance(name: str) -> bytes:
    """Return a key for a fixed order without any meaning, so that the first pictures are of all classes."""
    return hashlib.sha256(name.encode()).digest()


def _split_of(name: str) -> Stated | None:
    """Return the split that a Parquet file's folder or the beginning of its name states: train-00000-of-00001."""
    for part in reversed(name.split("/")):
        if match := _SPLIT_NAME.match(part):
            return SPLIT_NAMES[match[1].lower()]
    return None


def read_parquet(path: Path, origin: str, text_field: str, split: Stated | None) -> Iterator[Picture | Fault]:
    """Yield the rows of a Parquet file with a column of image bytes, or of {bytes, path} as Hugging Face writes it.

    Args:
        path: the file.
        origin: its name in the rows.
        text_field: column of the captions, looked for before the usual ones.
        split: of rows that have no column `split`.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            image = _image_column(schema)
            if image is None:
                yield Fault(origin, "malformed", f"no column of image bytes; it has: {', '.join(schema.names[:8])}")
                return
            keys = {image, *(text_field, *CAPTION_KEYS, *LABEL_KEYS, "split")} & set(schema.names)
            names = class_names(schema)
            number = 0
            for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE, columns=sorted(keys)):
                for number, row in enumerate(batch.to_pylist(), number + 1):  # noqa: B020
                    yield _row(row, image, names, f"{origin}#row={number}", text_field, split)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # Parquet's text may be no UTF-8
        yield Fault(origin, "damaged", f"Parquet: {error}")


def _row(row: dict[str, Any], image: str, names: list[str], origin: str, text_field: str,
         split: Stated | None) -> Picture | Fault:
    content = row[image]
    content = content.get("bytes") if isinstance(content, Mapping) else content
    if not content:
        return Fault(origin, "empty", f"the column '{image}' holds no bytes")
    if len(content) > FILE_BYTES:
        return Fault(origin, "too-large", f"over {FILE_BYTES >> 20} MB")
    label, caption = first(row, LABEL_KEYS), first(row, (text_field, *CAPTION_KEYS))
    if isinstance(label, int) and 0 <= label < len(names):
        label = names[label]
    if isinstance(caption, list):
        caption = next(iter(caption), "")
    stated = SPLIT_NAMES.get(str(row.get("split")).lower(), split)
    known = isinstance(label, str) or (isinstance(label, int) and label >= 0)
    return Picture(origin, content, Facts(str(label) if known and label != "" else None, tidy(str(caption or "")),
                                          stated))


def _image_column(schema: Any) -> str | None:
    import pyarrow as pa

    def holds(kind: Any) -> bool:
        if pa.types.is_struct(kind):
            return kind.get_field_index("bytes") >= 0 and holds(kind.field("bytes").type)
        return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))

    columns = [name for name in schema.names if holds(schema.field(name).type)]
    return next((name for name in _IMAGE_KEYS if name in columns), columns[0] if columns else None)


def is_archive(path: Path) -> bool:
    """Tell whether a path is a zip archive, by its name."""
    return path.is_file() and path.suffix.lower() == ".zip"


def check_file(path: Path) -> None:
    """Refuse a single file that cannot hold pictures.

    Raises:
        DataError: neither an archive, a Parquet file nor a picture, by its name.
    """
    if path.is_file() and not path.name.lower().endswith((".zip", ROWS_SUFFIX, *PICTURE_SUFFIXES)):
        raise DataError(f"{path} is no source of pictures", where="data.sources",
                        fix="give a folder, a .zip archive or a .parquet file")
