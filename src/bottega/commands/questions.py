"""What is asked of a teacher: the conversations of a JSONL file; `bottega distil questions.jsonl -o answers.jsonl`."""

from __future__ import annotations

import json
from pathlib import Path

from bottega.core.errors import DataError, InputError
from bottega.data.record import check_payload
from bottega.objectives.samples import Prompt

_FIX = 'write {"prompt": "…"} or {"messages": [{"role": "user", "content": "…"}]} on each line'


def questions(path: Path) -> list[Prompt]:
    """Return the conversations of a file, each up to its last question, with the answer that stood there.

    Raises:
        InputError: the file cannot be read.
        DataError: a line is malformed, or there is none; the message names it.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # splitlines would break at U+2028 within a text
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as text: {error}", fix="give a JSONL file") from None
    asked = []
    for number, line in enumerate(lines, 1):
        where = f"{path}:{number}"
        if not line.strip():
            continue
        try:
            data = json.loads(line)
        except (ValueError, RecursionError):
            data = None
        if not isinstance(data, dict) or (data.get("prompt") is None and data.get("messages") is None):
            raise DataError("the line asks nothing", where=where, fix=_FIX)
        turns = check_payload("preference", {**{key: data.get(key) for key in ("prompt", "messages")}, "chosen": "a",
                                             "rejected": "b"}, where=where)["messages"]
        reference = data.get("reference")
        while turns and turns[-1]["role"] == "assistant":
            *turns, last = turns
            reference = last["content"] if reference is None else reference
        if not turns:
            raise DataError("the line asks nothing: all its turns are the assistant's", where=where, fix=_FIX)
        facts = data.get("meta")
        asked.append(Prompt(turns, [], "" if reference is None else str(reference),
                            facts if isinstance(facts, dict) else {}))
    if not asked:
        raise DataError(f"{path} holds no questions", where=str(path), fix=_FIX)
    return asked
