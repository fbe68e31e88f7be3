"""What one row of a data file is: a text, a conversation, a preference or a rated answer, told by its keys.

    chosen, rejected                          a preference; before them `messages`, `conversations`, `prompt`,
                                              `instruction`, or both as whole conversations or hh-rlhf transcripts
    answer, desirable                         a rated answer to `messages`
    a conversation with label (true, false)   the same, as KTO sets are written; or `kto_tag`
    messages                                  a conversation in OpenAI's form, with `tools`
    conversations                             one in ShareGPT's form, with `system` and `tools`
    the text column                           a text
    prompt/completion, prompt/response,       a question with its answer (Alpaca's form, with `input`, `system`
    instruction/output                        and `history`)

`rows` reads files through here; `pytest tests/data/test_forms.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bottega.data import turns
from bottega.data.formats import Unreadable
from bottega.data.record import Kind
from bottega.data.turns import Turn, refuse

PAIRS = (("prompt", "completion"), ("prompt", "response"), ("instruction", "output"))
_LABELS = ("label", "kto_tag")


def recognise(data: Any, text_field: str) -> tuple[Kind, dict[str, Any]]:
    """Return the kind of a row and its payload, which `record.check_payload` checks further.

    Args:
        data: the row, JSON-ready.
        text_field: column that holds the text.

    Raises:
        Unreadable: it is none of them, or a faulty one; the reason is counted, the detail says what is wrong.
    """
    if not isinstance(data, Mapping):
        refuse("malformed", f"the row is {type(data).__name__}, not an object with keys")
    if data.get("chosen") is not None and data.get("rejected") is not None:
        return "preference", _preference(data)
    if "desirable" in data:
        if not isinstance(data.get("answer"), str) or not data["answer"].strip():
            refuse("empty-content" if "answer" in data else "missing-key", "'answer' is empty or missing")
        return "rating", {**_whole(data, ("answer", "desirable", "rater")), "messages": _before(data)}
    label = next((name for name in _LABELS if isinstance(data.get(name), bool)), None)
    conversation = _conversation(data) if _is_conversation(data) else None
    if conversation is None and text_field in data:
        return "text", {"text": _column(data, text_field)}
    if conversation is None:
        pair = next((pair for pair in PAIRS if isinstance(data.get(pair[0]), str) and pair[1] in data), None)
        if pair is None:
            names = ", ".join(map(str, list(data)[:8]))
            refuse("no-text", f"no column '{text_field}' and no messages; it has: {names} "
                              "(name the text column in data.text_field)")
        conversation = turns.alpaca(data, *pair)
    if label is not None:
        if conversation[-1]["role"] != "assistant" or len(conversation) < 2:
            refuse("no-answer", f"a rated conversation ({label}) ends with the assistant's answer")
        return "rating", {"messages": conversation[:-1], "answer": conversation[-1]["content"],
                          "desirable": data[label], **_whole(data, ("rater",))}
    if not any(turn["role"] == "assistant" and turn.get("weight") != 0 for turn in conversation):
        refuse("no-answer", "the conversation has no assistant turn to learn from")
    return "chat", {"messages": conversation}


def _whole(data: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: data[name] for name in names if data.get(name) is not None}


def _column(data: Mapping[str, Any], name: str) -> str:
    if data[name] is None:
        refuse("empty", f"'{name}' is empty")
    if not isinstance(data[name], str):
        refuse("malformed", f"'{name}' is {type(data[name]).__name__}, not text")
    return str(data[name])


def _is_conversation(data: Mapping[str, Any]) -> bool:
    return data.get("messages") is not None or isinstance(data.get("conversations"), list)


def _conversation(data: Mapping[str, Any]) -> list[Turn]:
    if data.get("messages") is not None:
        return turns.messages(data["messages"], data.get("tools") or data.get("functions"))
    return turns.share_gpt(data["conversations"], data.get("system"), data.get("tools"))


def _preference(data: Mapping[str, Any]) -> dict[str, Any]:
    said = _whole(data, ("margin", "rater"))
    chosen, rejected = data["chosen"], data["rejected"]
    before = _before(data, optional=True)
    if before is None and turns.is_transcript(chosen) and turns.is_transcript(rejected):
        chosen, rejected = turns.transcript(chosen), turns.transcript(rejected)
    sides = {}
    for name, value in (("chosen", chosen), ("rejected", rejected)):
        sides[name] = _answer(value, name)
    wholes = [side[:-1] for side in sides.values() if len(side) > 1]
    for whole in wholes:
        if before is None:
            before = whole
        if whole != before:
            refuse("prompts-differ", "the two answers do not follow the same turns")
    if not before:
        refuse("missing-key", "the preference has no prompt: add 'prompt' or 'messages'")
    return {"messages": before, **{name: side[-1]["content"] for name, side in sides.items()}, **said}


def _before(data: Mapping[str, Any], optional: bool = False) -> Any:
    """Return the turns before an answer, None where there are none and they are optional."""
    for key in ("messages", "prompt"):
        if isinstance(data.get(key), list):  # what people rated is learnt from as it was
            return turns.messages(data[key], data.get("tools"), called=False)
    if _is_conversation(data):
        return _conversation(data)
    for key in ("prompt", "instruction", "question"):
        if isinstance(data.get(key), str):
            return turns.alpaca(data, key, None)
    if optional:
        return None
    refuse("missing-key", "there is no prompt: add 'prompt' or 'messages'")


def _answer(value: Any, name: str) -> list[Turn]:
    """Return an answer given as text, as a turn, or as the whole conversation that ends in it."""
    if isinstance(value, Mapping):
        value = [value]
    if isinstance(value, list) and value:
        first = value[0]
        if isinstance(first, Mapping) and "from" in first:
            found = [{"role": "assistant", "content": str(first.get("value", ""))}] if len(value) == 1 \
                else turns.share_gpt(value, where=name)
        else:
            found = turns.messages(value)
        if found[-1]["role"] != "assistant":
            refuse("no-answer", f"'{name}' does not end with the assistant's answer")
    elif isinstance(value, str):
        found = [{"role": "assistant", "content": value}]
    else:
        raise Unreadable("malformed", f"'{name}' is {type(value).__name__}, not an answer")
    if not found[-1]["content"].strip():
        refuse("empty-content", f"'{name}' is empty")
    return found
