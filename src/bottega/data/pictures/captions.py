"""What the names and the small files around pictures say: classes, captions, splits.

    cats/tom.png                            the class is the first folder that tells pictures apart
    train/cats/tom.png                      train, validation (or test) as the outermost folder state the split
    tom.png + tom.txt                       the caption is the text file of the same name
    captions.csv | metadata.jsonl | …       rows of file_name and text (also label, split): caption_tables.py
    a_red_star.png                          where nothing else says more, the words of the name

Exercised by `pytest tests/data/test_pictures.py`.
"""

from __future__ import annotations

import itertools
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping

from bottega.data.pictures.caption_tables import CAPTION_KEYS, FILE_KEYS, LABEL_KEYS, first, is_table, rows, tidy
from bottega.data.pictures.record import PICTURE_SUFFIXES, SPLIT_NAMES, Facts, Fault, Stated
from bottega.data.pictures.trees import TABLE_BYTES, Tree, Unread

MISSING = "missing-caption"
_NUMBERED = re.compile(r"\(\d+\)$|(?<=[^\W\d_])\d+$")
_NOT_WORDS = re.compile(r"[\W_]+")
_CAMERA = frozenset(("img", "image", "images", "dsc", "dscn", "photo", "pic", "picture", "frame", "sample", "file",
                     "copy", "screenshot", "untitled"))
_HEX = re.compile(r"(?=.*\d)[0-9a-f]{6,}", re.IGNORECASE)
_SIDECAR_BYTES = 1 << 16


def describe(tree: Tree, place: str, text_field: str) -> tuple[dict[str, list[Facts]], list[Fault]]:
    """Return what is said about each picture of a tree, and what could not be understood.

    A picture with several captions has one entry for each. Where tables or text files give captions, a picture without
    one has none, and is named in the faults under the reason `missing-caption`; it is used all the same.

    Args:
        tree: the files.
        place: its name in faults.
        text_field: column of the captions, looked for before the usual ones.
    """
    pictures = [name for name in tree.names if name.lower().endswith(PICTURE_SUFFIXES)]
    known = set(tree.names)
    places = _places(pictures)
    faults: list[Fault] = []
    said: dict[str, list[Facts]] = {}
    tables = [name for name in tree.names if is_table(tree, name)]
    for table in tables:
        for name, facts, fault in _rows(tree, table, text_field):
            if fault:
                faults.append(Fault(f"{place}/{table}", *fault))
            elif name not in places:
                faults.append(Fault(f"{place}/{table}", "unknown-file", f"there is no picture {name!r:.200}"))
            else:
                said.setdefault(name, []).append(facts)
    found: dict[str, list[Facts]] = {}
    captioned = bool(tables)
    for name in pictures:
        label, split = places[name]
        sidecar = posixpath.splitext(name)[0] + ".txt"
        if name in said:
            found[name] = [Facts(each.label or label, each.caption, each.split or split) for each in said[name]]
        elif sidecar in known:
            captioned = True
            found[name] = [Facts(label, _sidecar(tree, sidecar, place, faults), split)]
        else:
            found[name] = [Facts(label, "", split)]
    if captioned:
        faults += [Fault(f"{place}/{name}", MISSING, "no caption; it is used without one")
                   for name in pictures if not any(each.caption for each in found[name])]
        return found, faults
    words = {name: name_words(posixpath.basename(name)) for name in pictures}
    if 2 * sum(map(bool, words.values())) >= len(pictures):
        found = {name: [Facts(each.label, words[name], each.split) for each in found[name]] for name in pictures}
    return found, faults


def _places(pictures: list[str]) -> dict[str, tuple[str | None, Stated | None]]:
    """Return class and split of each picture by its folders; folders that all of them share say nothing."""
    folders = {name: name.split("/")[:-1] for name in pictures}
    shared = _shared(folders.values())
    skip = next((depth for depth, part in enumerate(shared) if part.lower() in SPLIT_NAMES), len(shared))
    inner = {name: parts[skip:] for name, parts in folders.items()}
    splits: dict[str, Stated] = {}
    if all(parts and parts[0].lower() in SPLIT_NAMES for parts in inner.values()):  # else `train` may be a vehicle
        splits = {name: SPLIT_NAMES[parts[0].lower()] for name, parts in inner.items()}
        inner = {name: parts[1:] for name, parts in inner.items()}
    skip = len(_shared(inner.values()))
    return {name: (parts[skip] if len(parts) > skip else None, splits.get(name)) for name, parts in inner.items()}


def _shared(folders: Iterable[list[str]]) -> list[str]:
    """Return the outermost folders that all have in common."""
    levels = zip(*folders, strict=False)
    return [level[0] for level in itertools.takewhile(lambda level: len(set(level)) == 1, levels)]


def _sidecar(tree: Tree, name: str, place: str, faults: list[Fault]) -> str:
    try:
        return tidy(tree.read(name, _SIDECAR_BYTES).decode("utf-8-sig", "replace"))
    except Unread as error:
        faults.append(Fault(f"{place}/{name}", error.reason, error.detail))
        return ""


def _rows(tree: Tree, table: str, text_field: str) -> Iterator[tuple[str, Facts, tuple[str, str] | None]]:
    """Yield the picture's name and facts of each row, or reason and detail of what is wrong with it."""
    try:
        data = tree.read(table, TABLE_BYTES)
    except Unread as error:
        yield "", Facts(), (error.reason, error.detail)
        return
    folder = posixpath.dirname(table)
    for number, row in rows(data, table, text_field):
        file = first(row, FILE_KEYS) if isinstance(row, Mapping) else None
        if not isinstance(file, str) or not file:
            what = "no column file_name" if isinstance(row, Mapping) else row
            yield "", Facts(), ("malformed", f"row {number}: {what}")
            continue
        caption, label = first(row, (text_field, *CAPTION_KEYS)), first(row, LABEL_KEYS)
        split = SPLIT_NAMES.get(str(row.get("split")).lower())
        yield (posixpath.normpath(posixpath.join(folder, file.replace("\\", "/"))),
               Facts(str(label) if label not in (None, "") else None, tidy(str(caption or "")), split), None)


def name_words(name: str) -> str:
    """Return the words of a picture's file name; empty where it is only a number, a hash or a camera's name."""
    stem = _NUMBERED.sub("", posixpath.splitext(name)[0].strip())
    words = [word for word in _NOT_WORDS.sub(" ", stem).split() if not word.isdecimal()]
    if all(word.lower() in _CAMERA or len(word) == 1 or _HEX.fullmatch(word) for word in words):
        return ""
    return " ".join(words)
