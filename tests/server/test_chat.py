"""Chat as the official client sees it."""

import json
import math
from typing import Any, Literal

import httpx
import openai
import pydantic
import pytest

from bottega.workshop import works
from tests.server.running import Running
from tests.workshops import SmallWorkshop

QUESTION: list[Any] = [{"role": "user", "content": "My kettle arrived broken."}]


def ask(client: openai.OpenAI, **options: Any) -> Any:
    return client.chat.completions.create(**{"model": "assistant", "messages": QUESTION, "max_tokens": 24, "seed": 3,
                                             **options})


def test_answer_has_the_expected_shape(client: openai.OpenAI) -> None:
    answer = ask(client)
    assert answer.object == "chat.completion"
    assert answer.id.startswith("bt-")
    assert answer.model == "assistant"
    assert answer.system_fingerprint.startswith("fp_")
    choice = answer.choices[0]
    assert choice.message.role == "assistant"
    assert choice.message.content
    assert choice.finish_reason in ("stop", "length")
    assert choice.logprobs is None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.bottega["seed"] == 3
    assert answer.bottega["outputs"] == [f"{answer.id}.0"]
    assert answer.bottega["model_digest"].startswith(answer.system_fingerprint[3:])


def test_equal_seeds_give_equal_text(client: openai.OpenAI) -> None:
    texts = {ask(client, seed=11).choices[0].message.content for _ in range(3)}
    assert len(texts) == 1
    assert len({ask(client, seed=seed).choices[0].message.content for seed in range(6)}) > 1


def test_told_seed_makes_the_answer_again(client: openai.OpenAI) -> None:
    first = ask(client, seed=None)
    again = ask(client, seed=first.bottega["seed"])
    assert again.choices[0].message.content == first.choices[0].message.content


def test_stream_equals_the_whole_answer(client: openai.OpenAI) -> None:
    whole = ask(client)
    chunks = list(ask(client, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[0].choices[0].delta.content == ""
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    finishes = [chunk.choices[0].finish_reason for chunk in chunks]
    assert finishes[-1] == whole.choices[0].finish_reason
    assert finishes.count(None) == len(chunks) - 1
    assert chunks[-1].bottega["seed"] == 3


def test_usage_comes_last_and_only_when_asked(client: openai.OpenAI) -> None:
    whole = ask(client)
    chunks = list(ask(client, stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert all(chunk.choices for chunk in chunks[:-1])
    assert all(chunk.choices for chunk in ask(client, stream=True))


def test_raw_stream(server: Running) -> None:
    body = {"messages": QUESTION, "max_tokens": 8, "stream": True, "stream_options": {"include_usage": True}}
    answer = server.post("/v1/chat/completions", body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = answer.text.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    chunks = [json.loads(event.removeprefix("data: ")) for event in events[:-2]]
    assert all("usage" in chunk for chunk in chunks)


def test_several_choices(client: openai.OpenAI) -> None:
    whole = ask(client, n=3)
    assert [choice.index for choice in whole.choices] == [0, 1, 2]
    texts, finishes = ["", "", ""], [0, 0, 0]
    for chunk in ask(client, n=3, stream=True):
        choice = chunk.choices[0]
        texts[choice.index] += choice.delta.content or ""
        finishes[choice.index] += choice.finish_reason is not None
    assert texts == [choice.message.content for choice in whole.choices]
    assert finishes == [1, 1, 1]


def test_log_probabilities(client: openai.OpenAI) -> None:
    choice = ask(client, logprobs=True, top_logprobs=4, temperature=0).choices[0]
    content = choice.logprobs.content
    assert b"".join(bytes(token.bytes) for token in content).decode() == choice.message.content
    for token in content:
        assert len(token.top_logprobs) == 4
        values = [other.logprob for other in token.top_logprobs]
        assert values == sorted(values, reverse=True)
        assert token.logprob == max(values)  # temperature 0 takes the best
        assert sum(map(math.exp, values)) <= 1.0001


def test_log_probabilities_are_the_models_own(client: openai.OpenAI) -> None:
    cold = ask(client, logprobs=True, temperature=0).choices[0].logprobs.content
    colder = ask(client, logprobs=True, temperature=0, extra_body={"top_k": 1}).choices[0].logprobs.content
    assert [token.logprob for token in cold] == [token.logprob for token in colder]
    assert cold[0].top_logprobs == []


def test_streamed_log_probabilities(client: openai.OpenAI) -> None:
    whole = ask(client, logprobs=True, top_logprobs=2).choices[0].logprobs.content
    streamed = [token for chunk in ask(client, logprobs=True, top_logprobs=2, stream=True)
                if chunk.choices[0].logprobs for token in chunk.choices[0].logprobs.content]
    assert [token.token for token in streamed] == [token.token for token in whole]
    for one, other in zip(streamed, whole, strict=True):
        assert one.logprob == pytest.approx(other.logprob, abs=1e-4)


def test_json_object(client: openai.OpenAI) -> None:
    answer = ask(client, response_format={"type": "json_object"}, max_tokens=60)
    assert isinstance(json.loads(answer.choices[0].message.content), dict)


def test_json_schema_and_the_parse_helper(client: openai.OpenAI) -> None:
    class Parcel(pydantic.BaseModel):
        order: int
        product: Literal["kettle", "desk lamp"]

    parsed = client.chat.completions.parse(model="assistant", messages=QUESTION, response_format=Parcel, seed=1,
                                           max_tokens=80)
    assert isinstance(parsed.choices[0].message.parsed, Parcel)


def test_regular_expression(client: openai.OpenAI) -> None:
    answer = ask(client, response_format={"type": "regex", "regex": "[A-C]{4}"})
    assert len(answer.choices[0].message.content) == 4
    assert set(answer.choices[0].message.content) <= set("ABC")


def test_content_parts_and_roles(client: openai.OpenAI) -> None:
    parts = [{"type": "text", "text": "My kettle "}, {"type": "text", "text": "arrived broken."}]
    assert ask(client, messages=[{"role": "user", "content": parts}]).choices[0] == ask(client).choices[0]
    turns: list[Any] = [{"role": "system", "content": "Be brief."}, *QUESTION]
    developer: list[Any] = [{"role": "developer", "content": "Be brief."}, *QUESTION]
    assert ask(client, messages=turns).choices[0] == ask(client, messages=developer).choices[0]
    again = ask(client).choices[0].message.model_dump()  # an answer can be sent back as it came
    assert ask(client, messages=[*QUESTION, again, {"role": "user", "content": "Thanks."}]).choices[0].message.content


def test_limits_of_length(client: openai.OpenAI) -> None:
    for name in ("max_tokens", "max_completion_tokens"):
        answer = ask(client, **{"max_tokens": openai.omit, name: 3})
        assert answer.choices[0].finish_reason == "length"
        assert answer.usage.completion_tokens == 3
    assert ask(client, max_tokens=200, temperature=0).choices[0].finish_reason == "stop"


def test_every_control_is_taken(client: openai.OpenAI, server: Running) -> None:
    same: dict[str, Any] = {"presence_penalty": 0.5, "frequency_penalty": 0.25, "top_p": 0.9, "temperature": 0.8,
                            "n": 2, "seed": 9, "stop": ["never to be seen"], "logit_bias": {"5": -1.5}}
    ours = {"top_k": 20, "min_p": 0.01, "repetition_penalty": 1.1, "best_of": 3}
    answer = ask(client, **same, max_tokens=openai.omit, max_completion_tokens=7, user="me", metadata={"a": "b"},
                 store=False, response_format={"type": "regex", "regex": "[a-z ]+"}, extra_body=ours)
    with server.store() as store:
        controls = works.work(store, answer.id).request["controls"]
    assert {name: value for name, value in controls.items() if value is not None} == {
        **same, **ours, "max_tokens": 7, "format": {"regex": "[a-z ]+"}}


def test_best_of_picks_the_most_probable(client: openai.OpenAI) -> None:
    def score(choice: Any) -> float:
        values = [token.logprob for token in choice.logprobs.content]
        return sum(values) / len(values)

    many = ask(client, n=4, logprobs=True, temperature=1.2, max_tokens=12, response_format={
        "type": "regex", "regex": "[a-z]{30}"}).choices
    best = ask(client, logprobs=True, temperature=1.2, max_tokens=12, extra_body={"best_of": 4}, response_format={
        "type": "regex", "regex": "[a-z]{30}"}).choices
    assert len(best) == 1
    assert score(best[0]) == pytest.approx(max(map(score, many)), abs=1e-3)
    chunks = list(ask(client, stream=True, extra_body={"best_of": 4}))
    assert chunks[-1].choices[0].finish_reason


def test_default_model_answers(client: openai.OpenAI, small_workshop: SmallWorkshop) -> None:
    assert ask(client, model="").choices[0] == ask(client, model=small_workshop.assistant).choices[0]


def test_half_a_surrogate_pair_harms_nobody(server: Running) -> None:
    body = {"messages": [{"role": "user", "content": "a\ud800b"}], "max_tokens": 4}
    answer = httpx.post(f"{server.url}/v1/chat/completions", content=json.dumps(body), timeout=60,
                        headers={"content-type": "application/json"})
    assert answer.status_code == 200
    assert answer.json()["bottega"]["verdicts"]
