"""From sources to a prepared set of pictures: list → read → decode → split → drop copies → write.

    bottega data prepare recipes/digits-vae.yaml data.sources=[my/folder]

A set is named by the digest of its inputs, its settings and the code, and reused while it verifies. A file that cannot
be used is counted and named, never the end of the work.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL

from bottega.core.energy import CostMeter
from bottega.core.errors import CorruptError, DataError, Interrupted, RecipeError
from bottega.core.files import atomic_dir, digest_json, file_table, remove_unfinished, write_json
from bottega.core.lineage import Lineage, code_digest, merge_licences
from bottega.core.progress import say, track
from bottega.core.recipe import DataSpec
from bottega.data.dataset import CARD, SPLITS
from bottega.data.extract import Skips
from bottega.data.pictures.captions import MISSING
from bottega.data.pictures.card import make_card
from bottega.data.pictures.dataset import ROWS, Codec, PictureDataset, content_digest, images_file
from bottega.data.pictures.record import Fault, Picture, Pixels, Source
from bottega.data.pictures.rows import Row, Rows
from bottega.data.pictures.sources import open_sources

_SPOOL = "pixels.raw"
_AT_ONCE = 4096  # pictures copied from the spool in one go


def prepare_pictures(spec: DataSpec, codec: Codec, *, home: Path, seed: int = 0,
                     known: bool = False) -> PictureDataset[Codec]:
    """Prepare a set of pictures, or return the one that was made from the same inputs and settings before.

    Args:
        spec: the recipe's data part; `rules`, `languages` and `decontaminate` are about texts and must be empty, and
            `near_duplicates` has no effect.
        codec: the shape to bring pictures to, `ImageCodec.of(settings)`.
        home: the workshop; datasets lie in its data folder.
        seed: recorded in the lineage. The split does not depend on it, so that runs with several seeds are compared
            on the same held-out pictures.
        known: the codec knows its classes and words already: those of a model that is trained further.

    Raises:
        InputError: a source is not there.
        RecipeError: a setting that pictures do not have.
        DataError: a source is not readable as a whole, fewer than two pictures are left (counts are named), or one has
            a class that a known codec has not.
        MissingExtraError: a built-in set without the `images` extra.
        ResourceError: the disk is full.
        Interrupted: Ctrl-C; nothing half done is left.
    """
    for setting, value in (("rules", spec.rules), ("languages", spec.languages), ("decontaminate", spec.decontaminate)):
        if value:
            raise RecipeError(f"pictures have no {setting}: {value}", where=f"data.{setting}",
                              fix="leave it out; it is about texts")
    try:
        return _prepare(spec, codec, home, seed, known)
    except KeyboardInterrupt:
        raise Interrupted("data preparation was stopped", where=str(home / "data"),
                          fix="run the same command again") from None


def _prepare(spec: DataSpec, codec: Codec, home: Path, seed: int, known: bool) -> PictureDataset[Codec]:
    meter = CostMeter()
    remove_unfinished(home / "data")
    sources = open_sources(spec, codec)
    key = digest_json([spec.model_dump(mode="json"), codec.describe(), known, code_digest(), PIL.__version__,
                       np.__version__, [[source.name, source.identity()] for source in sources]])
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(spec.sources[0]).name).strip("-.") or "pictures"
    path = home / "data" / f"{name}-{key[:12]}"
    if path.is_dir():
        try:
            return PictureDataset.open(path, type(codec))
        except CorruptError as error:
            say(f"preparing again: {error.problem}")
    with atomic_dir(path, replace=True) as folder:
        skips, without = Skips(), Skips()
        rows = _read(sources, spec, codec, folder / _SPOOL, skips, without)
        _tell(skips)
        _tell(without, "used without a caption")
        dropped = rows.split(spec.validation, spec.exact_duplicates)
        if dropped is None:
            raise _nothing(spec, skips, rows)
        if known:
            new = [name for name in rows.classes() if name not in codec.classes]
            if new:
                raise DataError(f"the base knows no class '{new[0]}'", where=", ".join(spec.sources),
                                fix=f"use {', '.join(codec.classes[:20])}" if codec.classes else "leave classes out")
        else:
            codec = codec.learn(rows.classes(), (row.caption for row in rows.of("train")))
        shortened = rows.shorten(codec.shorten)
        for split in SPLITS:
            _write(folder / _SPOOL, folder / images_file(split), [row.place for row in rows.of(split)], codec)
        (folder / _SPOOL).unlink()
        rows.write(folder / ROWS, codec.classes)
        codec.save(folder)
        files = file_table(folder)
        digest = content_digest(files)
        licences = {row.licence: source.licence for source in sources for row in rows.kept if row.source == source.name}
        facts = {
            "codec": codec.describe(), "stages": {
                "read": len(rows.all) + sum(skips.counts.values()), "skipped": skips.facts()["skipped"],
                "rows": len(rows.all), "dropped": dropped, "kept": len(rows.kept)},
            "skipped_examples": skips.examples,
            "splits": {split: {"pictures": len(rows.of(split))} for split in SPLITS},
            "classes": {split: rows.class_counts(split) for split in SPLITS},
            "captions": {"with": sum(bool(row.caption) for row in rows.kept), "shortened": shortened,
                         "without": sum(not row.caption for row in rows.kept)},
            "sources": dict(Counter(row.source for row in rows.kept)), "licences": sorted(licences)}
        write_json(folder / CARD, make_card(name, spec, files, digest, facts))
        parameters = {**spec.model_dump(mode="json"),
                      "picture": {part: value for part, value in codec.describe().items() if part != "words"}}
        Lineage(kind="dataset", name=name, content=digest, step="prepare pictures", seed=seed, parameters=parameters,
                licences=merge_licences(list(licences.values())), cost=meter.read()).save(folder)
    return PictureDataset.open(path, type(codec))


def _read(sources: list[Source], spec: DataSpec, codec: Codec, spool: Path, skips: Skips, without: Skips) -> Rows:
    """Decode every picture once: pixels go to the spool, what is known about them into rows."""
    rows = Rows()
    shape = (codec.channels, codec.height, codec.width)
    with spool.open("wb") as file:
        for source, item in _items(sources):
            if spec.limit is not None and len(rows.all) >= spec.limit:
                break
            if isinstance(item, Fault):
                (without if item.reason == MISSING else skips)(item.reason, item.origin, item.detail)
                continue
            try:
                pixels = _decoded(item, codec)
            except DataError as error:
                skips(getattr(error, "reason", "unreadable"), item.origin, error.problem)
                continue
            if pixels.shape != shape or pixels.dtype != np.uint8:
                raise DataError(f"{item.origin} was decoded to {pixels.dtype} {list(pixels.shape)}, not uint8 "
                                f"{list(shape)}", fix="this is a fault of the codec")
            raw = pixels.tobytes()
            drawn = hashlib.sha256(raw)
            row = Row(source.name, source.licence.spdx, item.origin, drawn.digest(), _sha256(item, drawn.hexdigest()),
                      item.facts.label, item.facts.caption, item.facts.split)
            rows.add(row)
            file.write(raw)
    return rows


def _items(sources: list[Source]) -> Iterator[tuple[Source, Picture | Fault]]:
    for source in sources:
        for item in track(source.pictures(), f"reading {source.name}", total=source.count()):
            yield source, item


def _decoded(item: Picture, codec: Codec) -> Pixels:
    if isinstance(item.content, bytes):
        return codec.decode_file(item.content)
    return codec.fit_pixels(item.content)


def _sha256(item: Picture, drawn: str) -> str:
    return hashlib.sha256(item.content).hexdigest() if isinstance(item.content, bytes) else drawn


def _write(spool: Path, path: Path, places: list[int], codec: Codec) -> None:
    shape = (codec.channels, codec.height, codec.width)
    pixels = np.memmap(spool, np.uint8, "r").reshape(-1, *shape)
    out = np.lib.format.open_memmap(path, "w+", np.uint8, (len(places), *shape))
    for start in range(0, len(places), _AT_ONCE):
        out[start:start + _AT_ONCE] = pixels[places[start:start + _AT_ONCE]]
    out.flush()


def _tell(skips: Skips, what: str = "skipped") -> None:
    for reason, count in sorted(skips.counts.items()):
        for place in skips.examples[reason]:
            say(f"{what} ({reason}) {place}")
        if count > len(skips.examples[reason]):
            say(f"{what} ({reason}) {count - len(skips.examples[reason])} more")


def _nothing(spec: DataSpec, skips: Skips, rows: Rows) -> DataError:
    """Return the error for fewer than two different pictures, with what happened to the others."""
    counts = skips.counts + Counter(row.reason for row in rows.all if row.reason)
    what = "; left out: " + ", ".join(f"{reason} {count}" for reason, count in counts.most_common()) if counts else ""
    example = next((places[0] for places in skips.examples.values()), "data.sources")
    found = "only one picture" if rows.kept else "no picture"
    return DataError(f"{', '.join(spec.sources)}: {found} to use{what}", where=example,
                     fix="give at least two different pictures (PNG, JPEG, WebP, GIF or BMP), one of them is held out")
