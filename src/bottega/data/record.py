"""One piece of data on its way through the pipeline: a text, a conversation, a preference or a rated answer.

`bottega data inspect recipes/text-lm.yaml -n 1` prints one. All but texts travel as the canonical JSON of their
payload, so that every step sees text.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from bottega.core.errors import DataError, suggest
from bottega.core.files import canonical_json
from bottega.core.lineage import UNKNOWN_LICENCE

Kind = Literal["text", "chat", "preference", "rating"]
CONVERSATIONS = ("chat", "preference", "rating")  # kinds that are never divided
Split = Literal["train", "validation"]
_ROLES = ("system", "user", "assistant", "tool")


@dataclass(slots=True)
class Record:
    """One document.

    Attributes:
        kind: `text`, `chat` (messages), `preference` (prompt turns, a chosen and a rejected answer) or `rating`
            (prompt turns, an answer and whether it is desirable).
        origin: URI that is unique in its source and stable between runs; the id is derived from it.
        text: the text; of other kinds the canonical JSON of the payload (see `payload`).
        licence: SPDX expression, or `unknown`.
        split: forces `train` or `validation`; None lets a hash of the id decide.
        meta: JSON-ready facts that travel along.
    """

    kind: Kind
    origin: str
    text: str
    licence: str = UNKNOWN_LICENCE
    split: Split | None = None
    meta: dict[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """32 hex digits derived from the origin alone."""
        return document_id(self.origin)

    def payload(self) -> dict[str, Any]:
        """Return `{text}`, `{messages}`, `{messages, chosen, rejected}` or `{messages, answer, desirable}` by kind.

        A turn is `{role, content}`; an assistant turn that is not learnt from has `weight` 0 too. Preferences and
        ratings may have `rater` (str), preferences `margin` (float: by how much the chosen answer is better).
        """
        return payload_of(self.kind, self.text)

    @staticmethod
    def chat(origin: str, messages: list[dict[str, Any]], *, licence: str = UNKNOWN_LICENCE,
             split: Split | None = None, meta: dict[str, Any] | None = None) -> Record:
        """Make a checked `chat` record.

        Raises:
            DataError: a turn has no known role or no text.
        """
        return Record("chat", origin, canonical_json(check_payload("chat", {"messages": messages}, where=origin)),
                      licence, split, meta or {})

    @staticmethod
    def rating(origin: str, messages: list[dict[str, str]], answer: str, desirable: bool, *,
               licence: str = UNKNOWN_LICENCE, split: Split | None = None,
               meta: dict[str, Any] | None = None) -> Record:
        """Make a checked `rating` record; `messages` are the turns before the answer.

        Raises:
            DataError: a turn is malformed or the answer is not text.
        """
        data = {"messages": messages, "answer": answer, "desirable": desirable}
        return Record("rating", origin, canonical_json(check_payload("rating", data, where=origin)),
                      licence, split, meta or {})

    @staticmethod
    def preference(origin: str, messages: list[dict[str, str]], chosen: str, rejected: str, *,
                   licence: str = UNKNOWN_LICENCE, split: Split | None = None,
                   meta: dict[str, Any] | None = None) -> Record:
        """Make a checked `preference` record; `messages` are the turns before the two answers.

        Raises:
            DataError: a turn is malformed or an answer is not text.
        """
        data = {"messages": messages, "chosen": chosen, "rejected": rejected}
        return Record("preference", origin, canonical_json(check_payload("preference", data, where=origin)),
                      licence, split, meta or {})


def document_id(origin: str) -> str:
    """Return the id of an origin: the first 128 bits of its SHA-256, as 32 hex digits."""
    return hashlib.sha256(origin.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def payload_of(kind: str, text: str) -> dict[str, Any]:
    """Return the payload that a record's text stands for."""
    return {"text": text} if kind == "text" else dict(json.loads(text))


def prose(kind: str, payload: Mapping[str, Any]) -> str:
    """Return what a person would read of a payload: the text, or the turns and answers joined by blank lines."""
    if kind == "text":
        return str(payload["text"])
    parts = [turn["content"] for turn in payload["messages"]]
    return "\n\n".join(parts + [payload[name] for name in ("chosen", "rejected", "answer") if name in payload])


def _check_turns(value: Any, where: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not value:
        raise DataError("'messages' is not a list of turns", where=where,
                        fix='write [{"role": "user", "content": "…"}, …]')
    turns = []
    for number, turn in enumerate(value, 1):
        if not isinstance(turn, Mapping) or not isinstance(turn.get("content"), str):
            raise DataError(f"turn {number} has no text in 'content'", where=where,
                            fix='write {"role": "user", "content": "…"}')
        role = turn.get("role")
        if role not in _ROLES:
            raise DataError(f"turn {number} has the role {role!r}", where=where, fix=suggest(str(role), _ROLES))
        weight = turn.get("weight", 1)
        if weight not in (0, 1):
            raise DataError(f"turn {number} has the weight {weight!r}", where=where, fix="write 0 or 1")
        unheard = {"weight": 0} if weight == 0 and role == "assistant" else {}
        turns.append({"role": str(role), "content": turn["content"], **unheard})
    return turns


def _answer(value: Any, name: str, prefix: list[dict[str, Any]], where: str) -> str:
    """Return an answer given as text, as a list holding one turn, or as the whole conversation ending in it."""
    if isinstance(value, str) and value.strip():
        return value
    if isinstance(value, list):
        turns = _check_turns(value, where)
        if turns[-1]["role"] == "assistant" and turns[:-1] in ([], prefix):
            return str(turns[-1]["content"])
    raise DataError(f"'{name}' is not an answer", where=where, fix=f'write "{name}": "the answer\'s text"')


def check_payload(kind: Kind, data: Mapping[str, Any], *, where: str) -> dict[str, Any]:
    """Return the payload with exactly its own keys, checked.

    Args:
        kind: one of the record kinds.
        data: `text`, or `messages`, or (`messages` or `prompt`) with `chosen` and `rejected`, or with `answer` and
            `desirable`. A prompt is one user turn. Without either, `chosen` and `rejected` are conversations that
            differ in their last turn only.
        where: file and line, for the message.

    Raises:
        DataError: something is missing or has the wrong type.
    """
    if kind not in get_args(Kind):
        raise DataError(f"unknown record kind {kind!r}", where=where, fix=suggest(kind, get_args(Kind)))
    if kind == "text":
        if not isinstance(data.get("text"), str):
            raise DataError("the text is not a string", where=where, fix="write the text as a JSON string")
        return {"text": data["text"]}
    if kind == "chat":
        turns = _check_turns(data.get("messages"), where)
        if not any(turn["role"] == "assistant" and turn.get("weight") != 0 for turn in turns):
            raise DataError("the conversation has no assistant turn to learn from", where=where,
                            fix="add the answer as a turn with the role 'assistant'")
        return {"messages": turns}
    if data.get("messages") is not None:
        before = _check_turns(data["messages"], where)
    elif isinstance(data.get("prompt"), str):
        before = [{"role": "user", "content": data["prompt"]}]
    elif data.get("prompt") is not None:
        before = _check_turns(data["prompt"], where)
    elif isinstance(data.get("chosen"), list):
        before = _check_turns(data["chosen"], where)[:-1]
    else:
        raise DataError(f"the {kind} has no prompt", where=where, fix='add "prompt": "…" or "messages": […]')
    said = _said(data, where)
    if kind == "rating":
        if not isinstance(data.get("desirable"), bool):
            raise DataError("'desirable' is neither true nor false", where=where, fix='write "desirable": true')
        return {"messages": before, "answer": _answer(data.get("answer"), "answer", before, where),
                "desirable": data["desirable"], **{name: said[name] for name in said if name == "rater"}}
    return {"messages": before, "chosen": _answer(data.get("chosen"), "chosen", before, where),
            "rejected": _answer(data.get("rejected"), "rejected", before, where), **said}


def _said(data: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return who judged and by how much, where a row says so."""
    found: dict[str, Any] = {}
    rater, margin = data.get("rater"), data.get("margin")
    if rater is not None:
        if not isinstance(rater, str) or not rater.strip():
            raise DataError(f"'rater' is {rater!r}, not a name", where=where, fix='write "rater": "a name"')
        found["rater"] = rater
    if margin is not None:
        if isinstance(margin, bool) or not isinstance(margin, int | float) or not math.isfinite(margin):
            raise DataError(f"'margin' is {margin!r}, not a number", where=where, fix='write "margin": 1.0')
        found["margin"] = float(margin)
    return found
