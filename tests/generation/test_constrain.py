"""Whatever an untrained model wants, its output has the shape that was asked for."""

import json
import re

import pytest

from bottega.core.errors import ControlError
from bottega.core.request import Calls, Controls, Format, Request
from bottega.core.tool_text import read_calls, write_calls
from bottega.generation.engine import Engine

REQUIRED = ["name", "count", "tags", "kind"]
SCHEMA = {"type": "object", "additionalProperties": False, "required": REQUIRED, "properties": {
    "name": {"type": "string"}, "count": {"type": "integer"}, "kind": {"enum": ["refund", "repair"]},
    "tags": {"type": "array", "items": {"type": "string"}}, "note": {"type": ["string", "null"]}}}


def make(engine: Engine, form: Format, seed: int, max_tokens: int = 70, **controls: object) -> tuple[str, str]:
    request = Request(prompt="x", controls=Controls(format=form, seed=seed, max_tokens=max_tokens, **controls))
    output = engine.generate(request).outputs[0]
    return output.text, output.finish


@pytest.mark.parametrize("seed", range(8))
def test_json_always_parses_and_is_compact(engine: Engine, seed: int) -> None:
    text, finish = make(engine, Format(json_schema=SCHEMA), seed)
    value = json.loads(text)
    assert finish == "end"
    assert set(REQUIRED) <= value.keys() <= SCHEMA["properties"].keys()
    assert isinstance(value["count"], int)
    assert value["kind"] in ("refund", "repair")
    assert re.sub(r'"(\\.|[^"\\])*"', "", text).split() == [re.sub(r'"(\\.|[^"\\])*"', "", text)]


def test_json_closes_within_a_tight_budget(engine: Engine) -> None:
    nested = {"type": "object", "properties": {"a": {"type": "array", "items": {"$ref": "#"}}, "b": {"type": "string"}}}
    for budget in (16, 25, 40):
        for seed in range(4):
            text, _ = make(engine, Format(json_schema=nested), seed, budget)
            json.loads(text)


def test_greedy_json_ends_too(engine: Engine) -> None:
    text, finish = make(engine, Format(json_schema={"type": "array", "items": {"type": "number"}}), 0, temperature=0)
    assert isinstance(json.loads(text), list)
    assert finish == "end"


@pytest.mark.parametrize("seed", range(4))
def test_regex_and_grammar(engine: Engine, seed: int) -> None:
    date = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
    text, finish = make(engine, Format(regex=date), seed)
    assert re.fullmatch(date, text)
    assert finish == "end"
    lark = 'start: word ("," word)*\nword: /[a-c]+/'
    text, _ = make(engine, Format(grammar=lark), seed, 30)
    assert re.fullmatch(r"[a-c]+(,[a-c]+)*", text)


@pytest.mark.parametrize("several", [False, True])
def test_calls_are_written_as_models_learn_them(engine: Engine, several: bool) -> None:
    tools = {"order": SCHEMA, "now": {"properties": {}, "additionalProperties": False}}
    for seed in range(6):
        text, finish = make(engine, Format(calls=Calls(tools=tools, several=several)), seed, 120)
        words, calls = read_calls(text)
        assert (words, finish, write_calls("", calls)) == ("", "end", text)
        assert len(calls) == 1 or (several and calls)
        for call in calls:
            assert call.name in tools
            assert set(REQUIRED) <= call.arguments.keys() if call.name == "order" else call.arguments == {}


def test_no_further_call_begins_where_the_budget_has_no_room_for_it(engine: Engine) -> None:
    tools = {"now": {"properties": {}, "additionalProperties": False}}
    for budget in range(50, 95, 5):
        text, finish = make(engine, Format(calls=Calls(tools=tools, several=True)), budget, budget,
                            logit_bias={"<": 8, "\n": 8})
        words, calls = read_calls(text)
        assert (words, finish) == ("", "end"), (budget, text)
        assert calls


def test_a_tool_whose_schema_cannot_be_obeyed_is_named(engine: Engine) -> None:
    tools = {"order": SCHEMA, "bad": {"properties": {"a": {"type": "array", "uniqueItems": True}}}}
    for some in (tools, {"bad": tools["bad"]}):
        with pytest.raises(ControlError) as caught:
            make(engine, Format(calls=Calls(tools=some)), 0)
        assert caught.value.problem == ("the parameters of the tool 'bad' cannot be used: "
                                        'Unimplemented keys: ["uniqueItems"]')
        assert caught.value.where == "format.calls"
    with pytest.raises(ControlError, match="json_schema cannot be used: Unimplemented keys"):
        make(engine, Format(json_schema=tools["bad"]), 0)


@pytest.mark.parametrize(("form", "name"), [
    (Format(regex="[a-"), "regex"), (Format(grammar="start: nowhere"), "grammar"),
    (Format(json_schema={"type": "nonsense"}), "json_schema")])
def test_a_bad_format_is_named(engine: Engine, form: Format, name: str) -> None:
    with pytest.raises(ControlError, match=f"the {name} cannot be used"):
        make(engine, form, 0)


def test_a_format_that_the_bias_forbids(engine: Engine) -> None:
    with pytest.raises(ControlError, match="forbid every token"):
        make(engine, Format(regex="a"), 0, logit_bias={"a": -100})


def test_outputs_of_one_request_follow_the_format_each_by_itself(engine: Engine) -> None:
    form = Format(regex="(yes|no|perhaps), [0-9]{3}")
    controls = Controls(format=form, n=4, seed=1, max_tokens=40)
    outputs = engine.generate(Request(prompt="x", controls=controls)).outputs
    assert all(re.fullmatch("(yes|no|perhaps), [0-9]{3}", output.text) for output in outputs)
    assert len({output.text for output in outputs}) > 1
