"""What the assistant says, token by token, against a slow reference made by transformers from the chat template alone.

The reference renders every prefix of a conversation with the template, marks the characters that each assistant turn
adds, and carries the marks to tokens by their character offsets. It shares no code with ours: the turns it gets are the
rows as they were written, with their tools and calls, not what our reader made of them.
"""

import json
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bottega.codecs.text import TextCodec
from bottega.data.forms import recognise
from bottega.data.record import check_payload

Reference = Callable[[list[dict[str, Any]], Any], tuple[list[int], list[bool]]]
Turns = list[dict[str, Any]]


@pytest.fixture(scope="module")
def codec() -> TextCodec:
    text = 'Where would you like to eat? Élan 東京 🙂 <tools> {"name": "Find", "arguments": {}}\n</tool_call>\n'
    return TextCodec.train([text] * 40, 500)


@pytest.fixture(scope="module")
def reference(codec: TextCodec, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("codec")
    codec.save(folder)
    theirs = AutoTokenizer.from_pretrained(folder)

    def slow(turns: Turns, tools: Any) -> tuple[list[int], list[bool]]:
        def render(count: int, prompt: bool = False) -> str:
            return str(theirs.apply_chat_template(turns[:count], tools=tools, tokenize=False,
                                                  add_generation_prompt=prompt))

        whole = render(len(turns))
        said = [False] * len(whole)
        for number, turn in enumerate(turns):
            if turn["role"] != "assistant" or turn.get("weight") == 0:
                continue
            before, after = render(number, prompt=True), render(number + 1)
            assert whole.startswith(after)
            assert after.startswith(before)
            for place in range(len(before), len(after)):
                said[place] = True
        found = theirs(whole, add_special_tokens=False, return_offsets_mapping=True)
        mask = []
        for start, end in found["offset_mapping"]:
            marks = set(said[start:end])
            assert len(marks) == 1, "a token lies across the border of a turn"
            mask.append(marks.pop())
        return list(found["input_ids"]), mask

    return slow


def ours(codec: TextCodec, turns: Turns, tools: Any) -> tuple[list[int], list[bool]]:
    """Return ids and mask of a row in OpenAI's form by the path that training takes."""
    kind, payload = recognise({"messages": turns, "tools": tools}, "text")
    assert kind == "chat"
    return codec.encode_chat_masked(check_payload("chat", payload, where="")["messages"])


TEXT = st.text(alphabet=st.characters(exclude_characters="|", exclude_categories=["Cs"]), max_size=12)
WORDS = TEXT.filter(lambda text: bool(text.strip()))
ARGUMENTS = st.dictionaries(TEXT, st.one_of(st.none(), st.booleans(), st.integers(), TEXT, st.lists(TEXT, max_size=2)),
                            max_size=3)


@st.composite
def conversations(draw: st.DrawFn) -> tuple[Turns, Any]:
    """Make a conversation of any roles in any order that a row may have, with tools or without."""
    first = draw(st.sampled_from(["system", "user"]))  # transformers renders no empty prefix
    turns: Turns = [{"role": first, "content": draw(TEXT if first == "system" else WORDS)}]
    for _ in range(draw(st.integers(0, 4))):
        role = draw(st.sampled_from(["user", "assistant", "call", "system"]))
        if role != "call":
            turns.append({"role": role, "content": draw(WORDS)})
        else:
            made = st.fixed_dictionaries({"name": WORDS, "arguments": ARGUMENTS})
            calls = draw(st.lists(made, min_size=1, max_size=2))
            turns.append({"role": "assistant", "content": draw(st.one_of(st.just(""), WORDS)), "tool_calls": [
                {"type": "function", "function": call} for call in calls]})
            turns += [{"role": "tool", "content": draw(TEXT)} for _ in calls]
        if turns[-1]["role"] == "assistant" and draw(st.integers(0, 4)) == 0:
            turns[-1]["weight"] = 0
    turns.append({"role": "assistant", "content": draw(WORDS)})
    tools = [{"type": "function", "function": {"name": draw(WORDS), "description": draw(TEXT)}}]
    return turns, tools if draw(st.booleans()) else None


@given(conversations())
@settings(max_examples=200, deadline=None)
def test_made_up_conversations(codec: TextCodec, reference: Reference, made: tuple[Turns, Any]) -> None:
    assert ours(codec, *made) == reference(*made)


def sgd(folder: Path, count: int) -> list[tuple[Turns, Any]]:
    """Return conversations of sgd_dialogues in OpenAI's form: its API calls are tool calls."""
    found: list[tuple[Turns, Any]] = []
    with zipfile.ZipFile(folder / "sgd_dialogues" / "sgd_dialogues_json.zip") as packed:
        services = {service["service_name"]: service for service in json.loads(packed.read("dev/schema.json"))}
        names = sorted(name for name in packed.namelist() if name.startswith("dev/dialogues"))
        for dialogue in (dialogue for name in names for dialogue in json.loads(packed.read(name))):
            tools = [{"type": "function", "function": {"name": intent["name"], "description": intent["description"]}}
                     for name in dialogue["services"] for intent in services[name]["intents"]]
            turns: Turns = []
            for turn in dialogue["turns"]:
                for frame in turn["frames"]:
                    if "service_call" in frame:
                        made = frame["service_call"]
                        turns.append({"role": "assistant", "content": "", "tool_calls": [{"function": {
                            "name": made["method"], "arguments": made["parameters"]}}]})
                        turns.append({"role": "tool", "content": json.dumps(frame["service_results"][:1])})
                turns.append({"role": turn["speaker"].lower().replace("system", "assistant"),
                              "content": turn["utterance"]})
            found.append((turns, tools))
    return random.Random(6).sample(found, count)


def instructions(folder: Path, count: int) -> list[tuple[Turns, Any]]:
    """Return conversations of instruct_small, its ShareGPT rows with their calls, in OpenAI's form."""
    found: list[tuple[Turns, Any]] = []
    for name in ("llamafactory_alpaca_en_demo", "gpteacher_roleplay", "llamafactory_identity"):
        for row in json.loads((folder / "instruct_small" / f"{name}.json").read_text(encoding="utf-8")):
            asked = f"{row['instruction']}\n\n{row['input']}" if row["input"].strip() else row["instruction"]
            found.append(([{"role": "user", "content": asked}, {"role": "assistant", "content": row["output"]}], None))
    roles = {"human": "user", "gpt": "assistant", "observation": "tool"}
    glaive = folder / "instruct_small" / "llamafactory_glaive_toolcall_en_demo.json"
    for row in json.loads(glaive.read_text(encoding="utf-8")):
        turns = [{"role": "assistant", "content": "", "tool_calls": [{"function": json.loads(turn["value"])}]}
                 if turn["from"] == "function_call" else {"role": roles[turn["from"]], "content": turn["value"]}
                 for turn in row["conversations"]]
        found.append((turns, json.loads(row["tools"]) or None))
    calls = [item for item in found if item[1]]
    rest = [item for item in found if not item[1]]
    draw = random.Random(6)
    return draw.sample(calls, count // 4) + draw.sample(rest, count - count // 4)


@pytest.mark.parametrize("source", [sgd, instructions])
def test_a_thousand_real_conversations(source: Callable[[Path, int], list[tuple[Turns, Any]]], codec: TextCodec,
                                       reference: Reference, real_data: Path) -> None:
    said = 0
    for turns, tools in source(real_data, 500):
        ids, mask = ours(codec, turns, tools)
        assert (ids, mask) == reference(turns, tools)
        said += sum(mask)
    assert said > 10_000
