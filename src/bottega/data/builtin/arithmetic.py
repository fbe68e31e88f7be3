"""Built-in source `arithmetic`: sums with an answer that can be checked; `data.sources=[arithmetic]` in any recipe.

Sums and differences of two numbers, small products, chains worked out step by step, and the same in words. Every
answer ends with `#### NUMBER`. Whether a problem is held out is decided by a hash of the problem itself (operands of a
sum or a product sorted), so that no held-out problem is ever trained on, in no order and in no words.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bottega.data.record import Record, Split

LICENCE = "Apache-2.0"
PROBLEMS = 20_000
MARK = "####"
_HELD_OUT = 10  # one problem in so many

PLAIN = ("What is {e}?", "Compute {e}.", "{e} = ?")
_WORDS = {
    "+": ("{n} has {a} {t} and gets {b} more. How many are there now?",
          "There are {a} {t} in a box and {b} on the table. How many in all?"),
    "-": ("{n} has {a} {t} and gives {b} away. How many are left?",
          "Of {a} {t} {b} are sold. How many remain?"),
    "*": ("{a} boxes hold {b} {t} each. How many {t} are there?",
          "{n} buys {a} bags with {b} {t} in each. How many {t} is that?"),
}
_KINDS = ("sum", "sum", "sum", "difference", "difference", "difference", "product", "chain")
_NAMES = ("Ana", "Ben", "Carla", "David", "Emma", "Felix", "Grace", "Hugo")
_THINGS = ("apples", "books", "coins", "cups", "keys", "pens", "shells", "stamps")


@dataclass(frozen=True, slots=True)
class Problem:
    """Numbers joined from left to right by `+`, `-` or `*` (a product has two factors)."""

    numbers: tuple[int, ...]
    signs: tuple[str, ...]

    @property
    def steps(self) -> list[tuple[int, str, int, int]]:
        """The working: (left, sign, right, result), one a sign."""
        found, total = [], self.numbers[0]
        for sign, number in zip(self.signs, self.numbers[1:], strict=True):
            result = total + number if sign == "+" else total - number if sign == "-" else total * number
            found.append((total, sign, number, result))
            total = result
        return found

    @property
    def value(self) -> int:
        """The answer."""
        return self.steps[-1][3]

    @property
    def expression(self) -> str:
        """As it is written: `12 + 7 - 3`."""
        return f"{self.numbers[0]}" + "".join(f" {sign} {number}" for sign, number in
                                              zip(self.signs, self.numbers[1:], strict=True))

    @property
    def split(self) -> Split:
        """`validation` for one problem in ten, the same whatever the order of a sum's or a product's two numbers."""
        numbers = sorted(self.numbers) if self.signs in (("+",), ("*",)) else self.numbers
        name = " ".join([*map(str, numbers), *self.signs])
        return "validation" if hashlib.sha256(name.encode()).digest()[0] % _HELD_OUT == 0 else "train"

    @property
    def answer(self) -> str:
        """The working where there are several steps, one a line, and the marked answer."""
        steps = self.steps if len(self.signs) > 1 else []
        lines = [f"{left} {sign} {right} = {result}" for left, sign, right, result in steps]
        return "\n".join([*lines, f"{MARK} {self.value}"])


def draw(rng: random.Random) -> Problem:
    """Return a random problem: a sum or a difference of numbers under 50, a product, or a chain of three."""
    kind = rng.choice(_KINDS)
    if kind == "sum":
        return Problem((rng.randrange(50), rng.randrange(50)), ("+",))
    if kind == "difference":
        high, low = sorted((rng.randrange(50), rng.randrange(50)), reverse=True)
        return Problem((high, low), ("-",))
    if kind == "product":
        return Problem((rng.randrange(2, 10), rng.randrange(2, 20)), ("*",))
    first, signs = rng.randrange(20, 50), (rng.choice("+-"), rng.choice("+-"))
    return Problem((first, rng.randrange(1, 10), rng.randrange(1, 10)), signs)


def question(problem: Problem, rng: random.Random) -> str:
    """Return a problem as somebody asks it: as an expression, or (of two numbers) one time in three in words."""
    if len(problem.signs) == 1 and rng.random() < 1 / 3:
        a, b = problem.numbers
        return rng.choice(_WORDS[problem.signs[0]]).format(n=rng.choice(_NAMES), t=rng.choice(_THINGS), a=a, b=b)
    return rng.choice(PLAIN).format(e=problem.expression)


def problems(count: int = PROBLEMS, seed: int = 0) -> Iterator[tuple[Problem, str]]:
    """Yield (problem, question), no question twice; the same for the same arguments, about a tenth held out."""
    return different(random.Random(f"arithmetic {seed}"), count, draw, question)


def different(rng: random.Random, count: int, drawn: Callable[[random.Random], Problem],
              asking: Callable[[Problem, random.Random], str]) -> Iterator[tuple[Problem, str]]:
    """Yield `count` pairs of a problem that is drawn and the question as it is asked, no question twice."""
    seen = set[str]()
    while len(seen) < count:
        problem = drawn(rng)
        asked = asking(problem, rng)
        if asked not in seen:
            seen.add(asked)
            yield problem, asked


def records() -> Iterator[Record]:
    """Yield the problems as chats, held-out ones among them (forced into the validation split)."""
    for number, (problem, asked) in enumerate(problems()):
        turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": problem.answer}]
        yield Record.chat(f"builtin:arithmetic/{number}", turns, licence=LICENCE, split=problem.split,
                          meta={"expression": problem.expression, "answer": problem.value})
