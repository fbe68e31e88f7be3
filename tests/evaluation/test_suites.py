"""Suites give full marks to right answers and none to wrong ones; intervals are Wilson's."""

import re

import pytest

from bottega.core.errors import InputError
from bottega.core.request import Request
from bottega.data.builtin import python_docs_qa, support_desk
from bottega.evaluation import suites
from bottega.evaluation.statistics import mean, rate, token_f1


def oracle(tone: support_desk.Tone) -> suites.Generate:
    """A generator that reads the customer's message and follows the rules."""

    def answer(request: Request) -> str:
        assert request.messages is not None
        text = request.messages[0].content.lower()
        product = next(p for p in support_desk.PRODUCTS if re.search(rf"\b{p}\b", text))
        situation = next(s for s in support_desk.SITUATIONS
                         if any(phrase.format(p=product).lower() in text for phrase in s.phrasings))
        when = next(w for w in support_desk.WHEN if w in text)
        order = re.search(r"order (?:number )?(\d+)", text)
        assert order
        name = next(n for n in support_desk.NAMES if re.search(rf"\b{n.lower()}\b", text))
        case = support_desk.Case(product, situation, when, int(order[1]), name)
        return case.answer(tone)

    return lambda requests: [answer(request) for request in requests]


def test_right_answers_get_full_marks() -> None:
    figures = suites.run("support-desk", oracle("curt"), cases=60)
    assert {name: figure["value"] for name, figure in figures.items()} == dict.fromkeys(figures, 1.0)
    assert figures["all right"]["n"] == 60
    assert suites.run("house-tone", oracle("house"), cases=30)["house tone"]["value"] == 1
    assert suites.run("house-tone", oracle("curt"), cases=30)["house tone"]["value"] == 0


@pytest.mark.parametrize("answer", ["", "I do not know.",
                                    '{"order":1,"product":"x","policy":"y","amount":-1,"next":""}'])
def test_wrong_answers_get_none(answer: str) -> None:
    figures = suites.run("support-desk", lambda requests: [answer] * len(requests), cases=20)
    assert {figure["value"] for figure in figures.values()} == {0.0}


@pytest.mark.parametrize("words", ["Refund 140 euros. Send it back.", "Exchange 0 euros. Send it back.", "",
                                   "Exchange 0 euros. Courier comes. Refund 40 euros. Send it back."])
def test_right_tickets_under_wrong_words_are_not_right(words: str) -> None:
    """The customer reads the words: a right ticket below them makes no answer right."""
    tickets = iter([case.answer("curt").split("\n")[1] for case, _ in support_desk.cases("validation", 40, 1000)])
    zero = [case.facts.policy == "exchange" for case, _ in support_desk.cases("validation", 40, 1000)]
    figures = suites.run("support-desk", lambda requests: [f"{words}\n{next(tickets)}" for _ in requests], cases=40)
    assert figures["valid ticket"]["value"] == 1
    assert any(zero)
    assert figures["all right"]["value"] == 0


def test_real_bodies_parse_and_real_summaries_match() -> None:
    by_head = {python_docs_qa.WRITE.format(head=f.head): f.body for f in python_docs_qa.functions()}

    def known(requests: list[Request]) -> list[str]:
        return [by_head[request.messages[0].content] for request in requests if request.messages]

    assert suites.run("code-parses", known, cases=40)["parses"]["value"] == 1
    assert suites.run("code-parses", lambda r: ["    return ("] * len(r), cases=40)["parses"]["value"] == 0
    assert suites.run("python-docs-qa", lambda r: ["zzz"] * len(r), cases=40)["token F1"]["value"] == 0


def test_unknown_suite_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match="support-desk"):
        suites.run("suport-desk", lambda r: [], cases=1)


def test_wilson_interval() -> None:
    figure = rate(8, 10)  # Wilson 1927: 0.490 to 0.943
    assert figure["low"] == pytest.approx(0.4902, abs=1e-4)
    assert figure["high"] == pytest.approx(0.9433, abs=1e-4)
    assert rate(0, 10)["low"] == 0
    assert rate(10, 10)["high"] == 1
    with pytest.raises(ValueError, match="not a share"):
        rate(1, 0)


def test_mean_and_token_f1() -> None:
    figure = mean([1.0, 2.0, 3.0])
    assert (figure["value"], figure["n"]) == (2.0, 3)
    assert figure["high"] - 2 == pytest.approx(1.96 / 3**0.5, abs=1e-3)
    assert token_f1("Return the path", "return a path") == pytest.approx(2 / 3)
    assert token_f1("", "x") == 0
