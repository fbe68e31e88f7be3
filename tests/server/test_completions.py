"""Completions as the official client sees them."""

from typing import Any

import openai
import pytest

from bottega.codecs.text import TextCodec
from tests.server.running import Running
from tests.workshops import SmallWorkshop

PROMPT = "Return a new array"


@pytest.fixture
def lm(small_workshop: SmallWorkshop) -> str:
    return small_workshop.lm


@pytest.fixture
def codec(server: Running, lm: str) -> TextCodec:
    return TextCodec.load(server.home / "models" / lm)


def complete(client: openai.OpenAI, model: str, **options: Any) -> Any:
    return client.completions.create(**{"model": model, "prompt": PROMPT, "max_tokens": 30, "seed": 5, **options})


def test_shape_and_stream(client: openai.OpenAI, lm: str) -> None:
    whole = complete(client, lm)
    assert whole.object == "text_completion"
    assert whole.choices[0].finish_reason == "length"
    assert whole.usage.completion_tokens == 30
    chunks = list(complete(client, lm, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices[0].finish_reason] == ["length"]


def test_several_prompts(client: openai.OpenAI, lm: str) -> None:
    prompts = [PROMPT, "If the file", "The"]
    whole = complete(client, lm, prompt=prompts, n=2)
    assert [choice.index for choice in whole.choices] == list(range(6))
    for place, prompt in enumerate(prompts):
        alone = complete(client, lm, prompt=prompt, n=2)
        assert [choice.text for choice in alone.choices] == [c.text for c in whole.choices[2 * place:2 * place + 2]]
    assert whole.usage.completion_tokens == 180
    assert len(set(whole.bottega["outputs"])) == 6
    texts = [""] * 6
    for chunk in complete(client, lm, prompt=prompts, n=2, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.text
    assert texts == [choice.text for choice in whole.choices]


def test_log_probabilities(client: openai.OpenAI, lm: str) -> None:
    choice = complete(client, lm, logprobs=3).choices[0]
    logs = choice.logprobs
    assert len(logs.tokens) == len(logs.token_logprobs) == len(logs.top_logprobs) == len(logs.text_offset) == 30
    for token, value, top in zip(logs.tokens, logs.token_logprobs, logs.top_logprobs, strict=True):
        assert top[token] == pytest.approx(value)
        assert 3 <= len(top) <= 4
    offsets: list[int] = []
    for chunk in complete(client, lm, logprobs=3, stream=True):
        if chunk.choices[0].logprobs:
            offsets += chunk.choices[0].logprobs.text_offset
    assert offsets == logs.text_offset
    assert complete(client, lm, logprobs=0).choices[0].logprobs.top_logprobs is None


def test_stop_strings_across_token_borders(client: openai.OpenAI, lm: str) -> None:
    choice = complete(client, lm, logprobs=0, max_tokens=60).choices[0]
    tokens, text = choice.logprobs.tokens, choice.text
    borders = [place for place in range(5, len(tokens) - 1) if len(tokens[place]) > 1 and len(tokens[place + 1]) > 1]
    tried = 0
    for place in borders[:6]:
        stop = tokens[place][-1] + tokens[place + 1][0]  # ends within a token, begins within another
        shown = text[:text.index(stop)]
        for options in ({"stop": stop}, {"stop": ["never to be seen", stop]}):
            stopped = complete(client, lm, max_tokens=60, **options).choices[0]
            assert (stopped.text, stopped.finish_reason) == (shown, "stop")
        chunks = complete(client, lm, max_tokens=60, stop=stop, stream=True)
        assert "".join(chunk.choices[0].text for chunk in chunks) == shown
        tried += 1
    assert tried


def test_suffix_fills_the_gap(client: openai.OpenAI, lm: str) -> None:
    answer = complete(client, lm, suffix=" of the given shape.")
    assert answer.choices[0].text != complete(client, lm).choices[0].text
    assert answer.usage.prompt_tokens > complete(client, lm).usage.prompt_tokens


def test_logit_bias_forces_and_forbids(client: openai.OpenAI, lm: str, codec: TextCodec) -> None:
    letter = codec.encode("Q")[0]
    assert complete(client, lm, logit_bias={str(letter): 100}, max_tokens=8).choices[0].text == "Q" * 8
    first = complete(client, lm, temperature=0, logprobs=0, max_tokens=1).choices[0].text
    forbidden = {str(number): -100 for number in codec.encode(first)[:1]}
    assert complete(client, lm, temperature=0, max_tokens=1, logit_bias=forbidden).choices[0].text != first


def test_penalties_change_the_text(client: openai.OpenAI, lm: str) -> None:
    plain = complete(client, lm, temperature=0, max_tokens=60).choices[0].text
    assert complete(client, lm, temperature=0, max_tokens=60, frequency_penalty=2).choices[0].text != plain
    assert complete(client, lm, temperature=0, max_tokens=60, presence_penalty=2).choices[0].text != plain


def test_characters_are_never_cut(client: openai.OpenAI, lm: str, codec: TextCodec) -> None:
    bias = {str(codec.encode_bytes("🙂".encode()[:1])[0]): 30, **{str(codec.encode_bytes(bytes([byte]))[0]): 20
            for byte in range(0x80, 0xC0)}}
    whole = complete(client, lm, logit_bias=bias, max_tokens=40).choices[0].text
    pieces = [chunk.choices[0].text for chunk in complete(client, lm, logit_bias=bias, max_tokens=40, stream=True)]
    assert "".join(pieces) == whole


def test_alternatives_for_looking_inside(client: openai.OpenAI, lm: str) -> None:
    assert complete(client, lm, extra_body={"bottega": {"alternatives": 5, "door": "studio"}}).choices[0].text == \
        complete(client, lm).choices[0].text
