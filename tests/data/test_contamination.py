"""Planted overlaps are found and counted by kind; real data that shares nothing gives no finding."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bottega.core.errors import DataError, InputError
from bottega.data import questions
from bottega.data.builtin import support_desk
from bottega.data.contamination import COMMON, find
from bottega.data.questions import Question

WORDS = [f"word{number}" for number in range(5000)]


def ask(text: str, answer: str | None = None, place: str = "q") -> Question:
    return Question(place, [{"role": "user", "content": text}], answer)


def text(start: int, length: int = 30) -> str:
    return " ".join(WORDS[start:start + length])


def test_what_was_planted_is_found_and_nothing_else() -> None:
    evaluation = [ask(text(100 * number), place=f"item {number}") for number in range(20)]
    copied = " ".join(text(300).upper().split()) + "  "
    altered = text(500).replace("word505", "another")  # one word of thirty: 21 of 26 five-grams stay
    quoted = f"He said: {text(705, 15)}, and left the room without another look at any of the people in it."
    training = [ask(copied, place="train 1"), ask("Quite another thing.", altered, place="train 2"),
                Question("train 3", text=quoted), *(ask(text(3000 + 40 * number, 40)) for number in range(40))]
    found = find(training, evaluation, near=0.6)
    assert (found.items, found.exact, found.near, found.sequence, found.any) == (20, 1, 2, 3, 3)
    kinds = {one.item: one.kind for one in found.overlaps}
    assert kinds == {3: "exact", 5: "near", 7: "sequence"}
    third = next(one for one in found.overlaps if one.item == 7)
    assert third.share == pytest.approx(3 / 18), "three of its eighteen 13-word runs"
    assert third.training.startswith("train 3: He said")
    assert found.clean == [number for number in range(20) if number not in kinds]
    assert found.plain()["share"] == 3 / 20
    json.dumps(found.plain())


def test_similarity_is_the_true_jaccard() -> None:
    whole, other = text(0, 50), f"{text(0, 40)} {text(400, 10)}"
    sets = [{tuple(each.split()[i:i + 5]) for i in range(46)} for each in (whole, other)]
    true = len(sets[0] & sets[1]) / len(sets[0] | sets[1])
    one, = find([ask(other)], [ask(whole)], near=0.5).overlaps
    assert (one.kind, one.similarity) == ("near", pytest.approx(true))
    assert find([ask(other)], [ask(whole)], near=true + 0.01).near == 0


def test_short_questions_are_only_found_letter_by_letter() -> None:
    evaluation = [ask("What is 3 + 4?"), ask("What is 3 - 4?"), ask("Why?")]
    found = find([ask("what is  3 + 4?")], evaluation)
    assert [one.item for one in found.overlaps] == [0], "the same words with another sign are another question"


def test_phrases_of_the_form_prove_nothing() -> None:
    greeting = text(0, 14)
    evaluation = [ask(f"{greeting} {text(100)}")]
    letters = [ask(f"{greeting} {text(1000 + 30 * number)}") for number in range(COMMON + 1)]
    assert find(letters[:COMMON], evaluation).sequence == 1
    assert find(letters, evaluation).sequence == 0
    copied = [*letters, *[ask(evaluation[0].asked)] * (COMMON + 5)]
    assert find(copied, evaluation).exact == 1, "a widely copied question is found all the same"
    system = [{"role": "system", "content": text(200)}, {"role": "user", "content": "Hello there"}]
    assert find([Question("t", system)], [Question("e", [system[0], {"role": "user", "content": "Other"}])]).any == 0


@given(st.lists(st.integers(0, 4970), min_size=1, max_size=8), st.integers(0, 7))
def test_every_planted_copy_is_found_wherever_it_stands(starts: list[int], which: int) -> None:
    evaluation = [ask(text(start)) for start in starts]
    chosen = which % len(starts)
    training = [Question("t", text=f"before it {text(starts[chosen])} after it")]
    assert chosen in {one.item for one in find(training, evaluation).overlaps}


def test_a_built_in_set_is_clean_against_its_own_held_out_part() -> None:
    """Its products and situations are combined anew: phrases repeat, questions do not."""
    found = find(questions.read("arithmetic", "train"), list(questions.read("arithmetic", "validation")))
    assert found.items > 100
    assert found.exact <= 0.02 * found.items


def test_real_conversations_of_two_sources_share_nothing(real_data: Path) -> None:
    folder = real_data / "instruct_small"
    training = questions.read(str(folder / "gpteacher_roleplay.json"))
    evaluation = list(questions.read(str(folder / "llamafactory_alpaca_en_demo.json")))
    found = find(training, evaluation)
    assert found.items > 900
    assert found.any <= 0.01 * found.items, found.plain()
    planted = evaluation[:50]
    again = find(planted, evaluation)
    assert again.exact >= 50


def test_sources_are_read_in_their_forms(tmp_path: Path) -> None:
    file = tmp_path / "asked.jsonl"
    rows = [{"prompt": "Two and two?", "answer": "#### 4"}, {"messages": [{"role": "user", "content": "Hi"}]},
            {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]},
            {"prompt": "Which?", "chosen": "This one.", "rejected": "None."}, {"text": "A plain text."},
            {"instruction": "Add", "input": "2 2", "output": "4"}]
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    read = list(questions.read(str(file)))
    assert [one.reference for one in read] == ["#### 4", None, "Hello.", "This one.", None, "4"]
    assert read[1].digest == read[2].digest, "what is asked decides, not what is right"
    assert (read[3].rejected, read[4].text, read[5].asked) == ("None.", "A plain text.", "Add\n\n2 2")
    again = tmp_path / "again.jsonl"
    again.write_text("".join(f"{questions.line(one)}\n" for one in read))
    assert [(one.digest, one.reference, one.rejected) for one in questions.read(str(again))] == \
        [(one.digest, one.reference, one.rejected) for one in read]
    file.write_text('{"prompt": "fine"}\n{"nothing": 1}\n')
    with pytest.raises(DataError, match="row 2") as error:
        list(questions.read(str(file)))
    assert error.value.where.endswith("asked.jsonl:2")
    with pytest.raises(InputError, match="did you mean 'support-desk'"):
        list(questions.read("suport-desk"))
    held_out = list(questions.read("support-desk"))
    assert len(held_out) == support_desk.HELD_OUT_CHATS
    assert all(one.reference for one in held_out)
