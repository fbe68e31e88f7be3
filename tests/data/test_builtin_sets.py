"""The built-in instruction and preference sets: deterministic, split without leaks, right by their own rules."""

import json
import random
from dataclasses import asdict, replace

import pytest

from bottega.data.builtin import BUILTIN, code_that_parses, grounded_answers, python_docs_qa, support_desk
from bottega.data.record import Record


@pytest.fixture(scope="module")
def chats() -> list[Record]:
    return list(BUILTIN["support-desk"]())


def test_same_records_each_time(chats: list[Record]) -> None:
    assert [record.text for record in BUILTIN["support-desk"]()] == [record.text for record in chats]
    assert len({record.origin for record in chats}) == len(chats)


def test_held_out_pairs_occur_in_no_training_chat(chats: list[Record]) -> None:
    pairs: dict[str, set[tuple[str, str]]] = {"train": set(), "validation": set()}
    for record in chats:
        pairs[str(record.split)].add((record.meta["facts"]["product"], record.meta["situation"]))
    assert pairs["validation"] == support_desk.HELD_OUT
    assert not pairs["train"] & pairs["validation"]
    assert {product for product, _ in pairs["train"]} == set(support_desk.PRODUCTS)
    assert {situation for _, situation in pairs["train"]} == {s.name for s in support_desk.SITUATIONS}


def test_every_held_out_amount_is_known_from_other_situations(chats: list[Record]) -> None:
    known = {(r.meta["facts"]["product"], r.meta["facts"]["amount"]) for r in chats if r.split == "train"}
    known |= {(product, support_desk.DELIVERY_FEE) for product in support_desk.PRODUCTS}  # one fee for all
    assert {(r.meta["facts"]["product"], r.meta["facts"]["amount"]) for r in chats if r.split == "validation"} <= known


def test_words_and_ticket_agree_and_half_are_in_house_tone(chats: list[Record]) -> None:
    house = 0
    for record in chats:
        answer = record.payload()["messages"][-1]["content"]
        assert asdict(support_desk.read_ticket(answer)) == record.meta["facts"]  # type: ignore[call-overload]
        assert f"{record.meta['facts']['amount']} euros" in support_desk.text_of(answer)
        assert support_desk.is_house_tone(answer) == (record.meta["tone"] == "house")
        house += record.meta["tone"] == "house"
    assert house * 2 == len(chats)


def test_rules_by_hand() -> None:
    broken = next(s for s in support_desk.SITUATIONS if s.name == "broken")
    case = support_desk.Case("kettle", broken, "last week", 4821, "Ana")
    assert case.facts == support_desk.Facts(4821, "kettle", "refund", 40, "return")
    assert replace(case, when="2 months ago").facts == support_desk.Facts(4821, "kettle", "repair", 0, "workshop")


@pytest.mark.parametrize("answer", ["", "no ticket", "{", '{"order":1}', '{"a":{}}', "[1]", '{"order": }', "\ud800{"])
def test_no_valid_ticket(answer: str) -> None:
    assert support_desk.read_ticket(answer) is None


def test_corrupted_answers_hold_another_fact() -> None:
    rng = random.Random(0)
    for case, _ in support_desk.cases("train", 200, 5):
        wrong = grounded_answers.corrupted(case, "house", rng)
        assert wrong != case.answer("house")
        assert support_desk.is_house_tone(wrong)
        assert support_desk.read_ticket(wrong) != case.facts or f"{case.facts.amount} euros" not in wrong


def test_preferences_never_show_held_out_pairs_in_training() -> None:
    for name in ("house-tone", "grounded-answers"):
        for record in BUILTIN[name]():
            ticket = support_desk.read_ticket(record.payload()["chosen"])
            assert ticket is not None
            held = any(product == ticket.product and any(
                phrase.format(p=product)[1:] in record.payload()["messages"][0]["content"]
                for s in support_desk.SITUATIONS if s.name == situation for phrase in s.phrasings)
                for product, situation in support_desk.HELD_OUT)
            assert held == (record.split == "validation")


def test_docs_questions_are_split_by_function() -> None:
    splits: dict[str, set[str]] = {}
    tasks = set()
    for record in BUILTIN["python-docs-qa"]():
        splits.setdefault(record.meta["function"], set()).add(str(record.split))
        tasks.add(record.meta["task"])
        assert record.licence == "PSF-2.0"
    assert tasks == {"what", "describe", "write"}
    assert all(len(found) == 1 for found in splits.values())
    sides: dict[str, set[str]] = {}
    for function in python_docs_qa.functions():
        sides.setdefault(function.summary, set()).add(str(function.split))
    assert all(len(found) == 1 for found in sides.values())
    share = sum(found == {"validation"} for found in splits.values()) / len(splits)
    assert share == pytest.approx(python_docs_qa.HELD_OUT_SHARE, abs=0.02)


def test_chosen_code_parses_and_rejected_code_does_not() -> None:
    records = list(BUILTIN["code-that-parses"]())
    assert len(records) > 500
    for record in records[::10]:
        payload = record.payload()
        head = payload["messages"][0]["content"].removeprefix("Complete this function:\n")
        assert code_that_parses.parses(head, payload["chosen"])
        assert not code_that_parses.parses(head, payload["rejected"])
        assert json.loads(record.text)["chosen"] == payload["chosen"]
