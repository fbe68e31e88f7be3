"""Tools as the official client sees them, from a tiny model that learnt by heart to call one, and one that did not."""

import json
import re
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from bottega.core.recipe import Recipe
from bottega.training.run import make
from tests.server.running import Running, serving

TOOLS: list[Any] = [{"type": "function", "function": {
    "name": "weather", "description": "Weather of a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}]
ORDER = {"type": "object", "required": ["item", "count", "extras"], "additionalProperties": False, "properties": {
    "item": {"enum": ["kettle", "desk"]}, "count": {"type": "integer", "minimum": 1, "maximum": 20},
    "extras": {"type": "array", "items": {"$ref": "#/$defs/extra"}, "maxItems": 2}},
    "$defs": {"extra": {"type": "string", "pattern": "^[a-z]{3}$"}}}
CITIES = ["Rome", "Oslo", "Lima", "Bonn"]


def tool(name: str, parameters: dict[str, Any] | None) -> dict[str, Any]:
    described = {} if parameters is None else {"parameters": parameters}
    return {"type": "function", "function": {"name": name, **described}}


def call(id: str, city: str) -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": "weather", "arguments": json.dumps({"city": city})}}


def lessons() -> Iterator[dict[str, Any]]:
    """Yield conversations: a question is a call, a result an answer, two questions two calls; no tools, no call."""
    for city in CITIES:
        asked = [{"role": "user", "content": f"Weather in {city}?"},
                 {"role": "assistant", "content": "", "tool_calls": [call("1", city)]}]
        yield {"messages": asked, "tools": TOOLS}
        yield {"messages": [*asked, {"role": "tool", "tool_call_id": "1", "content": "hot"},
                            {"role": "assistant", "content": f"It is hot in {city}."}], "tools": TOOLS}
        yield {"messages": [{"role": "user", "content": f"Weather in {city}?"},
                            {"role": "assistant", "content": "I cannot look."}]}
    yield {"messages": [{"role": "user", "content": "Rome and Oslo?"},
                        {"role": "assistant", "content": "I look.", "tool_calls": [call("1", "Rome"),
                                                                                  call("2", "Oslo")]}],
           "tools": TOOLS}


@pytest.fixture(scope="module")
def caller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    home = tmp_path_factory.mktemp("tools") / "workshop"
    home.mkdir()
    rows, words = list(lessons()), home / "words.jsonl"
    words.write_text("".join(json.dumps({"text": json.dumps(row)}) + "\n" for row in rows for _ in range(20)))
    chats = home / "chats.jsonl"
    chats.write_text("".join(json.dumps(row) + "\n" for row in rows))
    common = {"context": 256, "batch_tokens": 3072, "precision": "fp32", "compile": "off", "sample_every": 0,
              "validation_tokens": 1024, "validate_every": 1.0}
    make(Recipe.model_validate({
        "name": "words", "data": {"sources": [str(words)]}, "codec": {"vocab_size": 420},
        "objective": {"kind": "pretrain"},
        "generator": {"depth": 2, "width": 96, "heads": 3, "head_dim": 32},
        "training": {**common, "budget": {"steps": 1}}}), home=home, report=False)
    make(Recipe.model_validate({
        "name": "caller", "base": "words", "data": {"sources": [str(chats)], "validation": 0.1, "near_duplicates": 0},
        "objective": {"kind": "sft"}, "training": {**common, "budget": {"steps": 60}, "learning_rate": 0.02,
                                                   "learning_rate_rest": 0.02}}), home=home, report=False)
    make(Recipe.model_validate({
        "name": "wide", "data": {"sources": [str(words)]}, "codec": {"vocab_size": 420},
        "objective": {"kind": "pretrain"}, "generator": {"depth": 1, "width": 64, "heads": 2, "head_dim": 32},
        "training": {**common, "context": 640, "budget": {"steps": 1}}}), home=home, report=False)
    make(Recipe.model_validate({
        "name": "novice", "base": "wide", "data": {"sources": [str(chats)], "validation": 0.1, "near_duplicates": 0},
        "objective": {"kind": "sft"}, "training": {**common, "context": 640, "budget": {"steps": 1}}}), home=home,
        report=False)
    with serving(home) as running:
        yield running


def ask(running: Running, messages: list[Any], **options: Any) -> Any:
    return running.client().chat.completions.create(**{
        "model": "caller", "messages": messages, "temperature": 0, "max_tokens": 90, "tools": TOOLS, **options})


def told(city: str) -> tuple[str, dict[str, str]]:
    return "weather", {"city": city}


def said(calls: list[Any]) -> list[tuple[str, Any]]:
    return [(one.function.name, json.loads(one.function.arguments)) for one in calls]


def test_a_call_is_made_answered_and_used(caller: Running) -> None:
    turns: list[Any] = [{"role": "user", "content": "Weather in Lima?"}]
    choice = ask(caller, turns).choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    assert said(choice.message.tool_calls) == [told("Lima")]
    one = choice.message.tool_calls[0]
    assert (one.type, one.id[:5]) == ("function", "call_")
    turns += [choice.message, {"role": "tool", "tool_call_id": one.id, "content": "hot"}]
    last = ask(caller, turns).choices[0]
    assert (last.message.content, last.finish_reason) == ("It is hot in Lima.", "stop")
    assert last.message.tool_calls is None


def test_words_and_several_calls(caller: Running) -> None:
    choice = ask(caller, [{"role": "user", "content": "Rome and Oslo?"}]).choices[0]
    assert choice.message.content == "I look."
    assert said(choice.message.tool_calls) == [told("Rome"), told("Oslo")]
    assert len({one.id for one in choice.message.tool_calls}) == 2
    alone = ask(caller, [{"role": "user", "content": "Rome and Oslo?"}], parallel_tool_calls=False).choices[0]
    assert said(alone.message.tool_calls) == [told("Rome")]


@pytest.mark.parametrize("options", [{}, {"logprobs": True}])
def test_a_stream_tells_the_same(caller: Running, options: dict[str, Any]) -> None:
    for question, words, cities in (("Rome and Oslo?", "I look.", ["Rome", "Oslo"]),
                                    ("Weather in Lima?", None, ["Lima"])):
        with caller.client().chat.completions.stream(
                model="caller", messages=[{"role": "user", "content": question}], temperature=0, max_tokens=90,
                tools=TOOLS, **options) as stream:
            events = [event.type for event in stream]
            choice = stream.get_final_completion().choices[0]
        assert "tool_calls.function.arguments.done" in events
        assert (choice.message.content or None) == words
        assert said(choice.message.tool_calls or []) == [told(city) for city in cities]
        assert choice.finish_reason == "tool_calls"


def valid(name: str, arguments: Any) -> bool:
    """Whether arguments obey the schema of their tool, by hand."""
    if name == "weather":
        return isinstance(arguments["city"], str)
    if name == "now":
        return arguments == {}
    return (arguments.keys() == {"item", "count", "extras"} and arguments["item"] in ("kettle", "desk")
            and arguments["count"] in range(1, 21) and len(arguments["extras"]) <= 2
            and all(re.fullmatch("[a-z]{3}", extra) for extra in arguments["extras"]))


def test_a_tool_that_was_never_learnt_is_called_because_it_must(caller: Running) -> None:
    tools, hello = [*TOOLS, tool("order", ORDER), tool("now", None)], [{"role": "user", "content": "Hello"}]
    assert ask(caller, hello, tools=tools, model="novice").choices[0].message.tool_calls is None
    for name in ("order", "now", "weather"):
        wish = {"type": "function", "function": {"name": name}}
        answer = ask(caller, hello, tools=tools, tool_choice=wish, temperature=1, seed=1, n=6, model="novice")
        for choice in answer.choices:
            assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
            assert [found for found, _ in said(choice.message.tool_calls)] == [name]
            assert all(valid(*one) for one in said(choice.message.tool_calls))
        if name != "now":
            assert len({str(said(choice.message.tool_calls)) for choice in answer.choices}) > 1


def test_one_of_the_tools_is_called_because_one_must(caller: Running) -> None:
    tools, counts = [*TOOLS, tool("order", ORDER), tool("now", None)], set[int]()
    for options in ({}, {"parallel_tool_calls": False}):
        answer = ask(caller, [_USER], tools=tools, tool_choice="required", temperature=1, seed=2, n=8, max_tokens=120,
                     model="novice", **options)
        for choice in answer.choices:
            assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
            assert all(valid(*one) for one in said(choice.message.tool_calls))
        counts = {len(choice.message.tool_calls) for choice in answer.choices} if options else counts
    assert counts == {1}
    both = [{"role": "user", "content": "Rome and Oslo?"}]
    assert said(ask(caller, both, tool_choice="required").choices[0].message.tool_calls)[0][0] == "weather"
    only = ask(caller, [{"role": "user", "content": "Weather in Lima?"}], tool_choice="required").choices[0]
    assert said(only.message.tool_calls) == [told("Lima")]  # what it would have said anyway


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "order"}}])
def test_a_stream_must_call_too(caller: Running, choice: Any) -> None:
    options = {"model": "novice", "messages": [{"role": "user", "content": "Hello"}], "temperature": 1, "seed": 3,
               "max_tokens": 90, "tools": [*TOOLS, tool("order", ORDER)], "tool_choice": choice}
    whole = caller.client().chat.completions.create(**options).choices[0]
    with caller.client().chat.completions.stream(**options) as stream:
        streamed = [event for event in stream if event.type == "tool_calls.function.arguments.done"]
        last = stream.get_final_completion().choices[0]
    assert last.finish_reason == whole.finish_reason == "tool_calls"
    assert not last.message.content
    assert said(last.message.tool_calls) == said(whole.message.tool_calls)
    assert [event.name for event in streamed] == [name for name, _ in said(whole.message.tool_calls)]
    assert all(valid(*one) for one in said(last.message.tool_calls))


def test_a_budget_too_small_for_a_call_is_told(caller: Running) -> None:
    choice = ask(caller, [_USER], tool_choice="required", max_tokens=8).choices[0]
    assert (choice.finish_reason, choice.message.tool_calls) == ("length", None)


def test_no_tools_no_calls(caller: Running) -> None:
    question = [{"role": "user", "content": "Weather in Bonn?"}]
    for options in ({"tools": openai.omit}, {"tool_choice": "none"}, {"tools": []}):
        choice = ask(caller, question, **options).choices[0]
        assert (choice.message.content, choice.finish_reason) == ("I cannot look.", "stop")
        assert choice.message.tool_calls is None
    other = [{"type": "function", "function": {**TOOLS[0]["function"], "name": "wether"}}]
    choice = ask(caller, question, tools=other).choices[0]
    assert "weather" not in str(choice.message.tool_calls)  # what was not offered is not called
    cut = ask(caller, question, max_tokens=8).choices[0]
    assert cut.finish_reason == "length"
    assert cut.message.tool_calls is None


_USER = {"role": "user", "content": "Weather in Rome?"}
_CALLED = {"role": "assistant", "content": None, "tool_calls": [call("1", "Rome")]}


@pytest.mark.parametrize(("options", "param", "words"), [
    ({"tool_choice": "always"}, "tool_choice", "use 'none', 'auto', 'required' or"),
    ({"tool_choice": "required", "tools": []}, "tool_choice", "give tools, or leave it out"),
    ({"tool_choice": {"type": "function", "function": {"name": "wether"}}}, "tool_choice",
     "no tool is named 'wether'; did you mean 'weather'"),
    ({"tool_choice": {"type": "custom", "custom": {"name": "weather"}}}, "tool_choice", "is not supported; use"),
    ({"tool_choice": "required", "response_format": {"type": "json_object"}}, "response_format",
     "cannot be given together"),
    ({"tool_choice": "required", "tools": [*TOOLS, tool("stop", {"type": "array"})]}, "tools",
     r"tools\[1\].function.parameters: the type 'array' is not allowed"),
    ({"tool_choice": "required", "tools": [*TOOLS, tool("stop", {"not": {"required": ["a"]}})]}, "tools",
     r"the parameters of the tool 'stop' cannot be used: Unimplemented keys: \[\"not\"\]. correct it"),
    ({"tool_choice": "required", "tools": [tool("stop", {"properties": {"a": {"type": "strin"}}})], "stream": True},
     "tools", "the parameters of the tool 'stop' cannot be used: Invalid type: strin. correct it"),
    ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools", "'custom' is not supported"),
    ({"tools": [{"type": "function", "function": {"name": "two words"}}]}, "tools", "two words"),
    ({"tools": [*TOOLS, *TOOLS]}, "tools", "two are named 'weather'"),
    ({"response_format": {"type": "json_object"}}, "response_format", "cannot be given together"),
    ({"messages": [_USER, _CALLED, {"role": "tool", "tool_call_id": "2", "content": "hot"}]}, "messages",
     "no call asked for"),
    ({"messages": [_USER, {**_CALLED, "tool_calls": [{"id": "1", "type": "function", "function": {
        "name": "weather", "arguments": "Rome"}}]}]}, "messages[1].tool_calls[0].function.arguments",
     "JSON of an object"),
    ({"messages": [{"role": "user", "content": "x", "tool_calls": [call("1", "Rome")]}]}, "messages[0].tool_calls",
     "belong to the assistant"),
])
def test_what_cannot_be_done_is_named(caller: Running, options: dict[str, Any], param: str, words: str) -> None:
    with pytest.raises(openai.BadRequestError, match=words) as caught:
        ask(caller, options.pop("messages", [_USER]), **options)
    assert caught.value.param == param


def test_results_stand_in_the_order_of_their_calls(caller: Running) -> None:
    calls = {"role": "assistant", "content": "", "tool_calls": [call("1", "Rome"), call("2", "Oslo")]}
    results = [{"role": "tool", "tool_call_id": id, "content": text} for id, text in (("1", "hot"), ("2", "cold"))]
    answers = [ask(caller, [_USER, calls, *order], seed=1, temperature=1).choices[0].message
               for order in (results, results[::-1])]
    assert answers[0].content == answers[1].content
