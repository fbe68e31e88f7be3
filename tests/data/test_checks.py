"""Checks of answers and of JSON, and the built-in tasks that are judged by them."""

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bottega.core.errors import RecipeError
from bottega.data import checks
from bottega.data.builtin import arithmetic, json_cards, long_sums


@pytest.mark.parametrize(("text", "marked"), [
    ("4 + 5 = 9\n#### 9", "9"), ("#### 1\n#### 2", "2"), ("x <answer>\n7 </answer> y", "7"),
    (r"so \boxed{12}", "12"), ("it is 9", None), ("####", None), ("#### \n9", None)])
def test_what_is_marked(text: str, marked: str | None) -> None:
    assert checks.marked_answer(text) == marked


@pytest.mark.parametrize(("one", "other", "same"), [
    ("1,250.0", "1250", True), ("$9", "9", True), ("9.", "9", True), ("-0", "0", True), ("Rome ", "rome", True),
    ("007", "7", True), ("9", "90", False), ("100", "1", False), ("", "0", False), ("1e3", "1000", False),
    (None, None, False), (None, "0", False)])
def test_same_answer(one: str | None, other: str | None, same: bool) -> None:
    assert checks.same_answer(one, other) is same


@given(st.integers(-10**12, 10**12))
def test_a_number_equals_itself_however_it_is_written(number: int) -> None:
    assert checks.same_answer(f"{number:,}", f"{number}.00")
    assert not checks.same_answer(str(number), str(number + 1))


JSON_VALUES = st.recursive(st.none() | st.booleans() | st.integers(-99, 99) | st.text(max_size=4),
                           lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner,
                                                                                       max_size=3), max_leaves=8)


@given(JSON_VALUES)
def test_every_value_fits_its_own_constant_and_no_other(value: Any) -> None:
    assert checks.json_fault(json.dumps(value), {"const": value}) == ""
    assert checks.json_fault(json.dumps([value]), {"const": value})


@pytest.mark.parametrize(("text", "fault"), [
    ('{"name":"Ana","age":3,"city":"Rome","likes":["tea"]}', ""),
    ('{"name":"Ana","age":3.0,"city":"Rome","likes":["tea"]}', ""),
    ('{"name":"Ana","age":true,"city":"Rome","likes":["tea"]}', "$.age is no integer"),
    ('{"name":"Ana","age":130,"city":"Rome","likes":["tea"]}', "$.age is 130"),
    ('{"name":"Ana","age":3,"city":"Rome","likes":[]}', "$.likes has 0 items"),
    ('{"name":"Ana","age":3,"city":"Rome","likes":["tea"],"x":1}', "$.x may not be there"),
    ('{"name":"Ana","age":3,"city":"Rome"}', "$ lacks 'likes'"),
    ('{"name":"Ana","name":"Ben"}', "no JSON: a key is given twice"),
    ('{"name":"Ana"} done', "no JSON: Extra data"), ("NaN", "no JSON: NaN"), ("[" * 100_000, "no JSON")])
def test_json_faults_are_named(text: str, fault: str) -> None:
    found = checks.json_fault(text, json_cards.SCHEMA)
    assert found.startswith(fault)
    assert bool(found) == bool(fault)


def test_a_schema_that_is_not_understood_is_refused() -> None:
    checks.check_schema(json_cards.SCHEMA)
    for schema, said in (({"typ": "object"}, "'typ'"), ({"type": "strin"}, "'strin'"), ({"pattern": "("}, "compile"),
                         ({"properties": {"a": {"minimun": 1}}}, "minimun"), ([], "mapping")):
        with pytest.raises(RecipeError, match=said):
            checks.check_schema(schema)


def test_sums_are_right_and_no_held_out_one_is_trained_on_in_other_words() -> None:
    splits: dict[str, set[str]] = {"train": set(), "validation": set()}
    records = list(arithmetic.records())
    for record in records:
        answer = record.payload()["messages"][-1]["content"]
        value = eval(record.meta["expression"])  # an independent judge of our own expressions
        assert checks.same_answer(checks.marked_answer(answer), str(value))
        parts = record.meta["expression"].split(" ")
        if len(parts) == 3 and parts[1] in "+*":
            parts = [*sorted((parts[0], parts[2]), key=int), parts[1]]
        splits[str(record.split)].add(" ".join(parts))
    assert not splits["train"] & splits["validation"]
    assert 0.08 < len(splits["validation"]) / sum(map(len, splits.values())) < 0.13
    digest = hashlib.sha256("".join(record.text for record in records).encode()).hexdigest()
    assert digest == hashlib.sha256("".join(record.text for record in arithmetic.records()).encode()).hexdigest()


def test_cards_fit_their_schema_and_are_split_by_their_facts() -> None:
    splits: dict[str, set[str]] = {"train": set(), "validation": set()}
    for record in json_cards.records():
        answer = record.payload()["messages"][-1]["content"]
        assert checks.json_fault(answer, json_cards.SCHEMA) == ""
        splits[str(record.split)].add(answer)
    assert splits["validation"]
    assert not splits["train"] & splits["validation"]


def test_long_sums_are_right_in_both_manners_and_split_by_the_problem() -> None:
    splits: dict[str, set[str]] = {"train": set(), "validation": set()}
    worked = 0
    for record in long_sums.records():
        answer = record.payload()["messages"][-1]["content"]
        for line in answer.splitlines()[:-1]:
            left, right = line.split(" = ")
            assert eval(left) == int(right)  # an independent judge of our own expressions
        assert checks.same_answer(checks.marked_answer(answer), str(eval(record.meta["expression"])))
        assert record.meta["worked"] is ("=" in answer)
        worked += record.meta["worked"]
        splits[str(record.split)].add(record.meta["expression"])
    assert not splits["train"] & splits["validation"]
    assert 0.08 < len(splits["validation"]) / sum(map(len, splits.values())) < 0.12
    assert abs(worked / long_sums.PROBLEMS - long_sums.WORKED) < 0.02
