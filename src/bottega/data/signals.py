"""The numbers measured on every document, in one pass; `bottega data signals` lists them.

Rules (`data.rules` of a recipe) are expressions over these names. The measures follow those of Gopher (Rae et al.
2021, table A1), C4 and FineWeb in kind; thresholds stand in `rules`.
"""

from __future__ import annotations

import unicodedata
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bottega.data.record import Kind
from bottega.data.words import Hashes, sequences

TEXT_SIGNALS = {
    "format": "prose, code, chat, preference or rating",
    "language": "ISO 639-1 code of the most likely language; '' for code and for texts without letters",
}
NUMBER_SIGNALS = {
    "chars": "characters",
    "words": "words (characters of scripts written without spaces count as words)",
    "lines": "lines that are not blank",
    "mean_line_length": "mean characters of a non-blank line",
    "max_line_length": "characters of the longest line",
    "mean_word_length": "mean characters of a word",
    "longest_run": "characters of the longest run without white space",
    "alphabetic_ratio": "letters and their marks / characters that are not white space",
    "digit_ratio": "digits / characters that are not white space",
    "symbol_ratio": "characters that are neither letter, mark, digit, punctuation nor white space / the same",
    "space_ratio": "white space / characters",
    "bullet_lines": "share of lines that begin with a bullet",
    "ellipsis_lines": "share of lines that end with an ellipsis",
    "ended_lines": "share of lines that end with closing punctuation",
    "duplicate_lines": "share of lines that repeat an earlier line",
    "duplicate_line_chars": "share of characters that stand in such lines",
    "top_2gram": "share of words covered by the most frequent 2-word sequence",
    "top_4gram": "share of words covered by the most frequent 4-word sequence",
    "unique_words": "different words / words",
    "language_score": "probability of `language`, 0 to 1, from the first 600 characters",
    "overlap": "13-word sequences shared with the `decontaminate` sources",
}
SIGNALS = {**TEXT_SIGNALS, **NUMBER_SIGNALS}
MEASURED = [name for name in NUMBER_SIGNALS if name not in ("language_score", "overlap")]

_CODE = """.py .pyi .pyx .js .mjs .cjs .jsx .ts .tsx .java .kt .scala .c .h .cc .cpp .cxx .hpp .hh .cs .go .rs .rb .php
.pl .pm .swift .m .mm .sh .bash .zsh .fish .ps1 .bat .lua .r .jl .sql .hs .ml .ex .exs .erl .clj .lisp .el .vim .dart
.f90 .asm .s .v .vhd .cmake .mk .gradle .proto .thrift .css .scss .less .vue .json .yaml .yml .toml .ini .cfg .xml .tf
.dockerfile"""
CODE_SUFFIXES = frozenset(_CODE.split())
_LETTER, _DIGIT, _SPACE, _PUNCTUATION, _SYMBOL = range(5)
_CLASS = {"L": _LETTER, "M": _LETTER, "N": _DIGIT, "Z": _SPACE, "P": _PUNCTUATION, "S": _SYMBOL, "C": _SYMBOL}
_BULLETS = ("•", "‣", "▪", "●", "- ", "* ", "+ ")
_ENDINGS = (".", "!", "?", "…", '"', "'", "”", "’", ")", ":", ";", "。", "！", "？", "।", "؟")
_PREFIX = 600


def format_of(kind: Kind, origin: str) -> str:
    """Return the `format` signal: the kind, or for texts `code` by the suffix of the file in the origin."""
    if kind != "text":
        return kind
    name = origin.split("#", 1)[0].rsplit("/", 1)[-1].lower()
    dot = name.rfind(".")
    code = name in ("makefile", "dockerfile") or (dot > 0 and name[dot:] in CODE_SUFFIXES)
    return "code" if code else "prose"


@cache
def _classes() -> NDArray[np.uint8]:
    """Return the class of each code point of the basic plane (uint8 [65536]); tab and line ends are space."""
    table = np.array([_CLASS[unicodedata.category(chr(point))[0]] for point in range(0x10000)], dtype=np.uint8)
    table[[9, 10, 11, 12, 13]] = _SPACE
    return table


def _class_counts(text: str) -> NDArray[np.int64]:
    """Return how many characters of each class a text has (int64 [5]); beyond the basic plane only ideographs are
    letters."""
    points = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
    low = np.minimum(points, 0xFFFF).astype(np.uint16)
    counts = np.bincount(_classes()[low], minlength=5)
    if len(points) and int(points.max()) > 0xFFFF:
        high = points[points > 0xFFFF]
        ideographs = int(np.count_nonzero((high >= 0x20000) & (high < 0x40000)))
        last = _classes()[0xFFFF]
        counts[last] -= len(high)
        counts[_LETTER] += ideographs
        counts[_SYMBOL] += len(high) - ideographs
    return counts


def _top_share(hashes: Hashes, n: int) -> float:
    runs = sequences(hashes, n)
    if len(runs) < 2:
        return 0.0
    runs.sort()
    edges = np.flatnonzero(np.concatenate(([True], runs[1:] != runs[:-1], [True])))
    most = int(np.diff(edges).max())
    return min(1.0, most * n / len(hashes)) if most > 1 else 0.0


def measure(text: str, words: list[str], hashes: Hashes) -> dict[str, float]:
    """Return every signal of `MEASURED` for one text.

    Args:
        text: what a person would read.
        words: its words (`words.split_words`).
        hashes: one uint64 a word (`words.hash_words`).
    """
    stripped = [line.strip() for line in text.split("\n")]
    lines = [line for line in stripped if line]
    lengths = [len(line) for line in lines]
    seen: set[str] = set()
    repeated = repeated_chars = 0
    for line in lines:
        if line in seen:
            repeated += 1
            repeated_chars += len(line)
        seen.add(line)
    counts = _class_counts(text)
    visible = max(1, len(text) - int(counts[_SPACE]))
    line_count, word_count = max(1, len(lines)), max(1, len(words))
    return {
        "chars": len(text), "words": len(words), "lines": len(lines),
        "mean_line_length": sum(lengths) / line_count,
        "max_line_length": max(lengths, default=0),
        "mean_word_length": sum(map(len, words)) / word_count,
        "longest_run": max(map(len, text.split()), default=0),
        "alphabetic_ratio": int(counts[_LETTER]) / visible,
        "digit_ratio": int(counts[_DIGIT]) / visible,
        "symbol_ratio": int(counts[_SYMBOL]) / visible,
        "space_ratio": int(counts[_SPACE]) / max(1, len(text)),
        "bullet_lines": sum(line.startswith(_BULLETS) for line in lines) / line_count,
        "ellipsis_lines": sum(line.endswith(("…", "...")) for line in lines) / line_count,
        "ended_lines": sum(line.endswith(_ENDINGS) for line in lines) / line_count,
        "duplicate_lines": repeated / line_count,
        "duplicate_line_chars": repeated_chars / max(1, sum(lengths)),
        "top_2gram": _top_share(hashes, 2), "top_4gram": _top_share(hashes, 4),
        "unique_words": len(np.unique(hashes)) / word_count,
    }


@cache
def _identifier() -> Any:
    from py3langid import langid

    return langid._load_identifier(norm_probs=True)


def language(text: str) -> tuple[str, float]:
    """Return the most likely language (ISO 639-1) and its probability; ('', 0) when there is no letter to judge by."""
    prefix = text[:_PREFIX]
    if not any(map(str.isalpha, prefix)):
        return "", 0.0
    code, score = _identifier().classify(prefix)
    return str(code), float(score)
