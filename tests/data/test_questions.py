"""Questions of a file: what is asked, and what is right, in every form that people write it."""

import json
from pathlib import Path
from typing import Any

import pytest

from bottega.data import questions
from bottega.data.contamination import find
from bottega.workshop.outside import bring_in


def _read(tmp_path: Path, *rows: dict[str, Any]) -> list[questions.Question]:
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return list(questions.read(str(path)))


@pytest.mark.parametrize(("right", "reference"), [("4", "4"), (4, "4"), (0, "0"), (1.5, "1.5"), (True, None),
                                                  ("", None), (None, None)])
def test_a_number_is_an_answer(right: Any, reference: str | None, tmp_path: Path) -> None:
    asked, turns = _read(tmp_path, {"prompt": "Two and two?", "answer": right},
                         {"messages": [{"role": "user", "content": "Two and two?"}], "reference": right})
    assert (asked.reference, turns.reference) == (reference, reference)
    assert asked.digest == turns.digest, "equal questions, whatever is right"


def test_a_line_read_again_is_the_same_question(tmp_path: Path) -> None:
    found = _read(tmp_path, {"prompt": "Two and two?", "answer": 4}, {"prompt": "Why?"}, {"text": "A text."},
                  {"prompt": "Which?", "chosen": "This.", "rejected": "That."},
                  {"messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]})
    again = _read(tmp_path, *(json.loads(questions.line(one)) for one in found))
    assert [(one.messages, one.reference, one.rejected, one.text) for one in again] == \
        [(one.messages, one.reference, one.rejected, one.text) for one in found]


def test_feedback_that_was_brought_in_can_be_asked_and_looked_into(tmp_path: Path) -> None:
    """Its folder has a card, as a dataset's has, and was told to be deleted as a damaged one."""
    pairs, thumbs = tmp_path / "pairs.jsonl", tmp_path / "thumbs.jsonl"
    pairs.write_text("".join(json.dumps({"prompt": f"Which {number}?", "chosen": "This.", "rejected": "That."}) + "\n"
                             for number in range(8)))
    thumbs.write_text("".join(json.dumps({"prompt": f"How {number}?", "answer": "So.", "desirable": True}) + "\n"
                              for number in range(8)))
    for file, first, rejected in ((pairs, "Which", "That."), (thumbs, "How", None)):
        folder = bring_in(file, tmp_path).path
        splits: tuple[questions.Split, ...] = ("train", "validation")
        learnt, held_out = (list(questions.read(str(folder), split)) for split in splits)
        assert sorted(one.asked for one in learnt + held_out) == [f"{first} {number}?" for number in range(8)]
        assert held_out
        assert {one.rejected for one in learnt} == {rejected}
        assert find(learnt, held_out).items == len(held_out)
