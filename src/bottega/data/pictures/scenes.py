"""The little world of the built-in `symbols`: what can be in a picture, how it is said, and how it is read back.

    a small red star                        an orange umbrella above a blue star on a grey ground
    a pink moon right of a green note       a red sun, a cyan cloud and a blue cross in a row

A symbol is `large` unless it is called small, and the ground is white unless it is named. Some combinations of name,
colour and place (`HELD_OUT`) never occur in training. Exercised by `pytest tests/data/test_pictures_symbols.py`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from bottega.core.errors import InputError, suggest

Size = Literal["small", "large"]
Place = Literal["centre", "left", "right", "above", "below"]
Layout = Literal["alone", "side", "stack", "row", "column"]
GLYPHS = {"star": "★", "heart": "♥", "circle": "●", "square": "■", "triangle": "▲", "diamond": "◆", "cross": "✚",
          "moon": "☾", "umbrella": "☂", "note": "♪", "sun": "☀", "cloud": "☁", "flower": "✿", "arrow": "⬆",
          "club": "♣", "plane": "✈"}
NAMES = tuple(GLYPHS)
COLOURS = {"red": (214, 30, 36), "orange": (240, 130, 10), "yellow": (232, 200, 0), "green": (24, 140, 44),
           "cyan": (0, 180, 200), "blue": (30, 70, 214), "purple": (130, 30, 170), "pink": (245, 110, 180)}
GROUNDS = {"white": 246, "grey": 158, "black": 14}
PLACES: dict[Layout, tuple[Place, ...]] = {
    "alone": ("centre",), "side": ("left", "right"), "stack": ("above", "below"), "row": ("left", "centre", "right"),
    "column": ("above", "centre", "below")}
_SHARES: dict[Layout, float] = {"alone": 0.35, "side": 0.25, "stack": 0.2, "row": 0.1, "column": 0.1}
_OPPOSITE: dict[Place, Place] = {"left": "right", "right": "left", "above": "below", "below": "above"}
_WORDS: dict[Place, str] = {"left": "left of", "right": "right of", "above": "above", "below": "below"}
_MARK = rf"an? (?:(small|large) )?({'|'.join(COLOURS)}) ({'|'.join(NAMES)})"
_GROUND = r"(?: on a (white|grey|black) ground)?\.?"
_PAIR = re.compile(rf"{_MARK}(?: (left of|right of|above|below) {_MARK})?{_GROUND}")
_LINE = re.compile(rf"{_MARK}, {_MARK},? and {_MARK} in a (row|column){_GROUND}")


def _every() -> list[tuple[str, str, Place]]:
    return [(name, colour, place) for name in NAMES for colour in COLOURS for place in get_args(Place)]


def _held_out(count: int) -> frozenset[tuple[str, str, Place]]:
    """Return combinations chosen by a hash, at most two of a name and four of a colour."""
    chosen: list[tuple[str, str, Place]] = []
    for one in sorted(_every(), key=lambda one: hashlib.sha256(f"bottega symbols {' '.join(one)}".encode()).digest()):
        if (sum(one[0] == other[0] for other in chosen) < 2 and sum(one[1] == other[1] for other in chosen) < 4
                and len(chosen) < count):
            chosen.append(one)
    return frozenset(chosen)


HELD_OUT = _held_out(26)


@dataclass(frozen=True, slots=True)
class Mark:
    """One symbol of a scene."""

    name: str
    colour: str
    size: Size
    place: Place

    @property
    def held_out(self) -> bool:
        """Whether this combination never occurs in training."""
        return (self.name, self.colour, self.place) in HELD_OUT

    def __str__(self) -> str:
        """Return it in words, with its article."""
        words = f"small {self.colour}" if self.size == "small" else self.colour
        return f"{'an' if words[0] in 'aeiou' else 'a'} {words} {self.name}"


@dataclass(frozen=True, slots=True)
class Scene:
    """One to three symbols, in the order of their places, on a ground. `turned`: said from the other end."""

    layout: Layout
    marks: tuple[Mark, ...]
    ground: str
    turned: bool = False

    @property
    def held_out(self) -> bool:
        """Whether it belongs to the validation split: it shows a combination that training never does."""
        return any(mark.held_out for mark in self.marks)

    @property
    def caption(self) -> str:
        """The scene in words."""
        marks = [str(mark) for mark in self.marks]
        if self.layout in ("row", "column"):
            text = f"{marks[0]}, {marks[1]} and {marks[2]} in a {self.layout}"
        elif self.layout == "alone":
            text = marks[0]
        elif self.turned:
            text = f"{marks[1]} {_WORDS[self.marks[1].place]} {marks[0]}"
        else:
            text = f"{marks[0]} {_WORDS[self.marks[0].place]} {marks[1]}"
        return text if self.ground == "white" else f"{text} on a {self.ground} ground"


def draw_scene(rng: np.random.Generator) -> Scene:
    """Return a scene by chance. Three in a line are always large, so that they can be told apart."""
    layout = list(_SHARES)[int(rng.choice(len(_SHARES), p=list(_SHARES.values())))]
    marks = tuple(Mark(NAMES[rng.integers(len(NAMES))], list(COLOURS)[rng.integers(len(COLOURS))],
                       "small" if layout not in ("row", "column") and rng.random() < 0.4 else "large", place)
                  for place in PLACES[layout])
    return Scene(layout, marks, list(GROUNDS)[rng.integers(len(GROUNDS))], bool(rng.random() < 0.5))


def scenes(seed: int) -> Iterator[Scene]:
    """Yield scenes without end; the same seed gives the same ones."""
    rng = np.random.default_rng([seed, 1])
    while True:
        yield draw_scene(rng)


def attributes(caption: str) -> list[dict[str, str]]:
    """Return name, colour, size, place and ground of each symbol that a caption mentions, in the order of mention.

    Raises:
        InputError: the caption is not in the language of this set.
    """
    text = " ".join(caption.lower().split())
    if match := _LINE.fullmatch(text):
        *parts, line, ground = match.groups()
        places: tuple[Place, ...] = PLACES["row"] if line == "row" else PLACES["column"]
    elif match := _PAIR.fullmatch(text):
        *first, word, size, colour, name, ground = match.groups()
        place = next((place for place, said in _WORDS.items() if said == word), None)
        parts, places = first, ("centre",)
        if place is not None:
            parts, places = [*first, size, colour, name], (place, _OPPOSITE[place])
    else:
        raise InputError(f"'{caption:.100}' does not describe symbols", fix=_advice(text))
    return [{"name": parts[3 * i + 2], "colour": parts[3 * i + 1], "size": parts[3 * i] or "large", "place": place,
             "ground": ground or "white"} for i, place in enumerate(places)]


def _advice(text: str) -> str:
    known = {"a", "an", "and", "in", "of", "on", "ground", "small", "large", "left", "right", "above", "below", "row",
             "column", *NAMES, *COLOURS, *GROUNDS}
    for word in re.findall(r"\w+", text):
        if word not in known:
            return f"'{word}' is not in it; {suggest(word, known)}"
    return "say for instance 'a small red star' or 'a red umbrella above a blue star on a grey ground'"
