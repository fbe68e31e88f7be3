"""What a recipe's `data.sources` name when it is about pictures. `bottega data prepare` opens them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bottega.core.errors import InputError, suggest
from bottega.core.lineage import UNKNOWN_LICENCE, Licence
from bottega.core.recipe import DataSpec
from bottega.data.pictures.digits import DigitsSource
from bottega.data.pictures.files import FilesSource, check_file, is_archive
from bottega.data.pictures.record import PictureCodec, Source
from bottega.data.pictures.symbols import SymbolsSource

PICTURES: dict[str, Callable[[PictureCodec], Source]] = {"digits": DigitsSource, "symbols": SymbolsSource}


def open_sources(spec: DataSpec, codec: PictureCodec) -> list[Source]:
    """Return the sources of a recipe in their order, listed but not read.

    Raises:
        InputError: a source is not there or is given twice.
        DataError: a file is no source of pictures.
        MissingExtraError: a built-in set without the `images` extra.
        RecipeError: a built-in set cannot be made in the codec's shape.
    """
    found: list[Source] = []
    labels: set[str] = set(PICTURES)
    for position, source in enumerate(spec.sources):
        if source in spec.sources[:position]:
            raise InputError(f"source '{source}' is given twice", where="data.sources", fix="name it once")
        if source in PICTURES:
            found.append(PICTURES[source](codec))
            continue
        if source.startswith("hf:"):
            raise InputError(f"'{source}': pictures are not read from the hub", where="data.sources",
                             fix="download the dataset's Parquet files and name their folder")
        path, inside = _divided(Path(source).expanduser())
        if not path.exists():
            raise InputError(f"source '{source}' is not there", where="data.sources",
                             fix="give a folder, a .zip archive (or ARCHIVE.zip/FOLDER), a .parquet file or a "
                                 "built-in set; "
                                 + suggest(source, PICTURES))
        check_file(path)
        label = "/".join(filter(None, (path.resolve().name or "root", inside)))
        while label in labels:
            label += "~"
        labels.add(label)
        stated = spec.licence != UNKNOWN_LICENCE
        licence = Licence(spdx=spec.licence, evidence="stated in data.licence of the recipe" if stated else "")
        found.append(FilesSource(path, inside, label, licence, spec.text_field))
    return found


def _divided(path: Path) -> tuple[Path, str]:
    """Return an archive and the folder inside it that a path such as `icons.zip/32` names, or the path itself."""
    for above in path.parents:
        if not path.exists() and is_archive(above):
            return above, path.relative_to(above).as_posix()
    return path, ""
