"""The comparison of two models: on real small ones, and its rule on figures made for it."""

import json
from typing import Any

import pytest

from bottega.core.errors import InputError
from bottega.data.builtin import support_desk
from bottega.evaluation.statistics import Figure, rate
from bottega.workshop.compare import _verdict, compare
from tests.workshops import SmallWorkshop


def _held_out(count: int) -> list[dict[str, Any]]:
    return [{"messages": [{"role": "user", "content": message}], "chosen": case.answer("house"),
             "rejected": case.answer("curt")} for case, message in support_desk.cases("validation", count, 5)]


def test_a_tuned_model_beats_the_one_it_came_from_and_itself_not(small_workshop: SmallWorkshop) -> None:
    raw, tuned = (small_workshop.home / "models" / name for name in (small_workshop.lm, small_workshop.assistant))
    pairs = [*_held_out(6), {"messages": [{"role": "user", "content": "Long?"}], "chosen": "word " * 3000,
                             "rejected": "No."}]
    found = compare(raw, tuned, pairs, ["support-desk", "a suite of long ago"], cases=4)
    assert json.loads(json.dumps(found)) == found
    assert (found["pairs"], found["prompts"], found["left_out"]) == (6, 6, 1)
    assert found["chosen_logprob"]["change"]["low"] > 1, "it never saw such answers before it was tuned"
    assert found["likeness"]["change"]["n"] == 6
    assert found["choice_accuracy"]["challenger"]["n"] == 6
    assert list(found["suites"]) == ["support-desk"]
    assert found["seconds_per_token"]["challenger"] > 0
    same = compare(tuned, tuned, pairs[:6])
    assert same["margin"]["change"] == Figure(value=0, low=0, high=0, n=6)
    assert same["likeness"]["change"]["value"] == 0, "the same seeds give the same answers"
    assert same["verdict"] == "not shown to be better"
    with pytest.raises(InputError, match="none of the 1 held-out pairs"):
        compare(raw, tuned, pairs[6:])


@pytest.mark.parametrize(("margin", "prompts", "likely", "fell", "verdict"), [
    ((0.1, 0.3), 9, (-0.1, 0.2), False, "better"),
    ((-0.1, 0.3), 9, (-0.1, 0.2), False, "not shown to be better"),
    ((0.1, 0.3), 5, (-0.1, 0.2), False, "not shown to be better"),
    ((0.1, 0.3), 9, (-0.3, -0.1), False, "not shown to be better"),
    ((0.1, 0.3), 9, (-0.1, 0.2), True, "worse"),
    ((-0.3, -0.1), 9, (-0.1, 0.2), False, "worse"),
    ((-0.3, -0.1), 5, (-0.1, 0.2), False, "not shown to be better"),
])
def test_the_verdict_follows_its_rule(margin: tuple[float, float], prompts: int, likely: tuple[float, float],
                                      fell: bool, verdict: str) -> None:
    def change(interval: tuple[float, float]) -> dict[str, Any]:
        return {"change": Figure(value=sum(interval) / 2, low=interval[0], high=interval[1], n=prompts)}

    suite = {"champion": rate(38, 40), "challenger": rate(28, 40), "fell": fell}
    found = _verdict({"margin": change(margin), "chosen_logprob": change(likely), "suites": {"desk": {"right": suite}}})
    assert found[0] == verdict
    assert found[1].lower().startswith(verdict)
