"""Are made texts those of training rows, whole or in long passages? `pytest tests/evaluation/test_table_repeats.py`.

A model that knows a text by heart seldom gives it back letter by letter: a text counts as repeated when it is one of
the training texts, or when ten of its words in a row are; where no spaces part words, as in Chinese and Japanese, two
letters count as a word. Real texts repeat each other too, greetings and phrases, so
the share is put beside that of held-out rows.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable
from itertools import accumulate

from bottega.core.table import Table, as_text
from bottega.evaluation.statistics import Figure, rate

RUN = 10  # words in a row that are hardly ever the same by chance
_LETTERS = "\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # kana and Han
_LETTER, _WORD = re.compile(f"[{_LETTERS}]"), re.compile(rf"[{_LETTERS}]|[^\s{_LETTERS}]+")


def repeated(rows: Table, train: Table) -> dict[str, Figure]:
    """Return the share of values of each column that is not learned (id, text) that repeat a training row's.

    A column without a value in `rows` is left out. Memory grows with `rows`, not with `train`.
    """
    learned, found = {column.name for column in train.schema.learned}, {}
    for name in train.schema.names:
        if name in learned:
            continue
        texts = [_pieces(text) for text in as_text(rows.data[name]).to_pylist() if text is not None]
        if not texts:
            continue
        wanted, seen = set[str]().union(*texts), set[str]()
        for text in _stream(train, name):
            seen.update(wanted.intersection(_pieces(text)))
        found[name] = rate(sum(not seen.isdisjoint(pieces) for pieces in texts), len(texts))
    return found


def _stream(table: Table, name: str) -> Iterable[str]:
    for batch in as_text(table.data[name]).chunks:
        yield from (text for text in batch.to_pylist() if text is not None)


def _pieces(text: str) -> set[str]:
    """Return every run of words of a text, or the whole of a shorter one, whatever its case and spaces."""
    words = _WORD.findall(text.lower())
    ends: Iterable[int]
    if _LETTER.search(text) is None:
        ends = range(RUN, len(words) + 1)
    else:
        halves = list(accumulate((1 if _LETTER.match(word) else 2 for word in words), initial=0))
        ends = (bisect_left(halves, before + 2 * RUN) for before in halves)
    return {" ".join(words[first:end]) for first, end in enumerate(ends) if end <= len(words)} or {" ".join(words)}
