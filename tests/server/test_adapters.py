"""Adapters of one base over HTTP: each is a model of its own to the official client, whoever else asks meanwhile."""

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest

from bottega.core.recipe import AdapterSpec
from bottega.core.request import Controls, Message, Request
from bottega.generation.engine import Engine
from bottega.workshop.models import _LOADED
from tests.generation.conftest import codec  # noqa: F401
from tests.generation.test_adapted import ATTENTION, add, half, home  # noqa: F401
from tests.server.running import serving

SPECS = {"plain": AdapterSpec(), "lengths": AdapterSpec(kind="dora"), "some": AdapterSpec(rank=2, targets=ATTENTION),
         "packed": AdapterSpec(quantise="nf4"), "late": AdapterSpec(rank=3)}
PROMPTS = ["The cat", "one two", "def ", '{"name"']


def alone(home: Path, name: str, prompt: str, seed: int, *, chat: bool = False) -> str:  # noqa: F811
    """Return what a model says that is loaded for itself, in this process."""
    said: dict[str, Any] = {"messages": [Message(role="user", content=prompt)]} if chat else {"prompt": prompt}
    request = Request(**said, controls=Controls(seed=seed, max_tokens=20, n=1))
    return Engine.open(home / "models" / name).generate(request).outputs[0].text


def ask(client: openai.OpenAI, name: str, prompt: str, seed: int, *, stream: bool = False) -> str:
    options: dict[str, Any] = {"model": name, "prompt": prompt, "seed": seed, "max_tokens": 20}
    if stream:
        return "".join(chunk.choices[0].text for chunk in client.completions.create(**options, stream=True))
    return str(client.completions.create(**options).choices[0].text)


@half
def test_each_request_gets_the_adapter_it_names(add: Any, home: Path) -> None:  # noqa: F811
    for number, name in enumerate(["plain", "lengths", "some", "packed"]):
        add(name, SPECS[name], number + 1)
    names = ["transformer", "plain", "lengths", "some", "packed"]
    assert len(names) > _LOADED  # so that models also make room for each other
    with serving(home) as running, running.client() as client:
        assert {model.id for model in client.models.list()} == set(names)
        wanted = {(name, prompt): alone(home, name, prompt, place) for name in names
                  for place, prompt in enumerate(PROMPTS)}
        assert len(set(wanted.values())) > len(wanted) - 3  # no two say the same, but for what says nothing
        for place, prompt in enumerate(PROMPTS):  # swapped with every request
            for name in names:
                assert ask(client, name, prompt, place, stream=place % 2 == 1) == wanted[name, prompt]
        order = [(name, place) for name in names for place in range(len(PROMPTS)) for _ in range(2)]
        random.Random(1).shuffle(order)
        with ThreadPoolExecutor(12) as pool:
            told = list(pool.map(lambda one: ask(client, one[0], PROMPTS[one[1]], one[1], stream=one[1] % 2 == 0),
                                 order))
        assert told == [wanted[name, PROMPTS[place]] for name, place in order]

        add("late", SPECS["late"], 9)  # made while others are served
        assert ask(client, "late", "The cat", 0) == alone(home, "late", "The cat", 0)
        chat = client.chat.completions.create(model="late", messages=[{"role": "user", "content": "The cat"}], seed=3,
                                              max_tokens=20)
        assert chat.choices[0].message.content == alone(home, "late", "The cat", 3, chat=True)
        with pytest.raises(openai.NotFoundError, match="unknown model 'plainn'"):
            ask(client, "plainn", "The cat", 0)


def test_an_adapter_whose_base_is_gone_is_served_again_when_it_is_back(add: Any, home: Path) -> None:  # noqa: F811
    add("plain", SPECS["plain"], 1)
    (home / "models" / "transformer").rename(home / "away")
    with serving(home) as running, running.client() as client:
        assert client.models.list().data == []
        with pytest.raises(openai.NotFoundError, match="unknown model 'plain'"):
            ask(client, "plain", "The cat", 0)
        (home / "away").rename(home / "models" / "transformer")
        assert ask(client, "plain", "The cat", 0) == alone(home, "plain", "The cat", 0)
