"""Questions of a file: what is asked, and what is right, in every form that people write it."""

import json
from pathlib import Path
from typing import Any

import pytest

from bottega.data import questions


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
