"""Built-in source `long-sums`: sums of six numbers as people answer them; recipes/arithmetic-sft.yaml uses it.

Most answers give the result alone, the others the working line by line before it, as happens where several people wrote
a team's demonstrations. A small model taught by these can do both, and takes the more frequent way, the worse one: that
is what practice finds out (recipes/arithmetic-grpo.yaml). Held-out problems are told by a hash of the problem.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from bottega.data.builtin.arithmetic import LICENCE, MARK, PLAIN, Problem, different
from bottega.data.record import Record

PROBLEMS = 20_000
WORKED = 0.4  # share of answers with the working


def draw(rng: random.Random) -> Problem:
    """Return a random sum: a number from 20 to 49, then five from 1 to 9, added or taken away."""
    return Problem((rng.randrange(20, 50), *(rng.randrange(1, 10) for _ in range(5))),
                   tuple(rng.choice("+-") for _ in range(5)))


def problems(count: int = PROBLEMS, seed: int = 0) -> Iterator[tuple[Problem, str]]:
    """Yield (problem, question), no question twice; the same for the same arguments, about a tenth held out."""
    return different(random.Random(f"long sums {seed}"), count, draw,
                     lambda problem, rng: rng.choice(PLAIN).format(e=problem.expression))


def records() -> Iterator[Record]:
    """Yield the problems as chats, held-out ones among them (forced into the validation split)."""
    rng = random.Random("long sums, who answers")
    for number, (problem, asked) in enumerate(problems()):
        worked = rng.random() < WORKED
        answer = problem.answer if worked else f"{MARK} {problem.value}"
        turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
        yield Record.chat(f"builtin:long-sums/{number}", turns, licence=LICENCE, split=problem.split,
                          meta={"expression": problem.expression, "answer": problem.value, "worked": worked})
