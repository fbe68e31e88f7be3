"""What models are asked to be compared, and what they learnt from, read from anywhere: `bottega compare --on SOURCE`.

A source is a file or folder of rows or texts, a prepared dataset, an exported set of preferences, or a built-in set.
Rows are told apart as `forms` does; besides, a row may hold a question alone (`prompt`, `question`, `instruction` or
`messages` that end with a person's turn), with `answer`, `reference`, `completion`, `response` or `output` as what is
right.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bottega.core.errors import DataError, InputError, suggest
from bottega.core.files import canonical_json, digest_json
from bottega.core.lineage import LINEAGE
from bottega.data import turns
from bottega.data.builtin import BUILTIN
from bottega.data.dataset import CARD, Dataset
from bottega.data.formats import Unreadable, read_parts
from bottega.data.forms import recognise
from bottega.data.normalise import normalise
from bottega.data.record import Split, check_payload
from bottega.data.rows import is_row_file, objects

_ASKED = ("prompt", "question", "instruction")
_RIGHT = ("reference", "answer", "completion", "response", "output")
_JUDGED: dict[Split, tuple[str, ...]] = {"train": ("preferences.jsonl", "ratings.jsonl"),
                                         "validation": ("held-out.jsonl",)}  # files of exported and imported feedback
_VALIDATION = 0.02  # share of a built-in's rows that say nothing of their split, as recipes hold out


@dataclass(frozen=True, slots=True)
class Question:
    """One thing to ask, or a text.

    Attributes:
        place: file and line, or origin.
        messages: the turns before the answer; empty for a plain text.
        reference: what is right, where it is known; of a preference the chosen answer.
        rejected: of a preference, the other answer.
        text: a plain text.
    """

    place: str
    messages: list[dict[str, str]] = field(default_factory=list)
    reference: str | None = None
    rejected: str | None = None
    text: str = ""

    @property
    def digest(self) -> str:
        """SHA-256 of what is asked: equal questions have equal digests, whatever is right."""
        return digest_json(self.messages or self.text)

    @property
    def asked(self) -> str:
        """The last turn of a person (of a text: the text)."""
        return next((turn["content"] for turn in reversed(self.messages) if turn["role"] == "user"), self.text)

    @property
    def texts(self) -> list[str]:
        """Everything in it that somebody wrote for it: all turns but the system's, and the answers."""
        said = [turn["content"] for turn in self.messages if turn["role"] != "system"]
        return [text for text in (*said, self.reference, self.rejected, self.text) if text]


def read(source: str, split: Split = "validation") -> Iterator[Question]:
    """Yield the questions and texts of a source, in its order.

    Args:
        source: path or built-in name.
        split: of a dataset, of exported or imported feedback and of a built-in; files have none and are read whole.

    Raises:
        InputError: there is no such source.
        DataError: a row or file is malformed; the message has its place.
        CorruptError: a dataset does not match its manifest.
    """
    path = Path(source).expanduser()
    judged = [path / name for name in _JUDGED[split] if (path / name).is_file()] if (path / LINEAGE).is_file() else []
    if judged:  # it has a card too, of another kind
        for file in judged:
            yield from _file(file)
    elif (path / CARD).is_file():
        dataset = Dataset.open(path)
        for row in dataset.rows(split):
            yield _of(f"{row['source']} {row['id'][:12]}", row)
    elif path.is_dir():
        for file in sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith(".")):
            yield from _file(file)
    elif path.is_file():
        yield from _file(path)
    elif source in BUILTIN:
        for record in BUILTIN[source]():
            side = record.split or ("validation" if int(record.id[:13], 16) / 16**13 < _VALIDATION else "train")
            if side == split:
                yield _of(record.origin, record.payload())
    else:
        raise InputError(f"'{source[:200]}' is no file, folder, dataset or built-in set", where="source",
                         fix=suggest(source[:200], BUILTIN))


def _file(path: Path) -> Iterator[Question]:
    try:
        if not is_row_file(path.name):
            for number, text in enumerate(read_parts(path), 1):
                if text.strip():
                    yield Question(f"{path.name} part {number}", text=normalise(text))
            return
        for number, data in objects(path):
            if isinstance(data, Unreadable):
                raise DataError(f"row {number}: {data.detail}", where=f"{path}:{number}", fix="correct or remove it")
            yield _row(data, path, number)
    except Unreadable as fault:
        raise DataError(f"{path} cannot be read: {fault.detail}", where=str(path), fix="give another file") from None


def _row(data: Any, path: Path, number: int) -> Question:
    place = f"{path.name}:{number}"
    try:
        alone = _alone(data)
        if alone is not None:
            return _of(place, alone)
        kind, payload = recognise(data, "text")
        return _of(place, check_payload(kind, payload, where=place))
    except Unreadable as fault:
        raise DataError(f"row {number}: {fault.detail}", where=f"{path}:{number}",
                        fix='write {"messages": […]}, {"prompt": "…", "answer": "…"} or a preference') from None


def _alone(data: Any) -> dict[str, Any] | None:
    """Return the payload of a row that asks and may say what is right; None where `forms` reads it."""
    if not isinstance(data, Mapping) or {"chosen", "rejected"} & data.keys() or "desirable" in data:
        return None
    right = next((str(data[name]) for name in _RIGHT if isinstance(data.get(name), str | int | float)
                  and not isinstance(data[name], bool)), None)
    if isinstance(data.get("messages"), list) and data["messages"]:
        last = data["messages"][-1]
        if not isinstance(last, Mapping) or last.get("role") == "assistant":
            return None
        return {"messages": turns.messages(data["messages"], data.get("tools")), "reference": right}
    asked = next((name for name in _ASKED if isinstance(data.get(name), str)), None)
    return None if asked is None else {"messages": turns.alpaca(data, asked, None), "reference": right}


def _of(place: str, payload: Mapping[str, Any]) -> Question:
    """Return a payload as a question: a chat's last answer is what is right, a preference's the chosen one."""
    if "messages" not in payload:
        return Question(place, text=normalise(payload["text"]))
    said = [{"role": turn["role"], "content": normalise(turn["content"], exact=True)} for turn in payload["messages"]]
    reference = payload.get("reference") or payload.get("chosen")
    if "answer" in payload and payload.get("desirable"):
        reference = payload["answer"]
    elif reference is None and "answer" not in payload and said[-1]["role"] == "assistant":
        reference = said.pop()["content"]
    right, wrong = (None if text is None else normalise(str(text), exact=True)
                    for text in (reference, payload.get("rejected")))
    return Question(place, said, right, wrong)


def line(question: Question) -> str:
    """Return a question as a line of JSONL that `read` reads again."""
    if not question.messages:
        return canonical_json({"text": question.text})
    row: dict[str, Any] = {"messages": question.messages}
    if question.rejected is not None:
        return canonical_json({**row, "chosen": question.reference, "rejected": question.rejected})
    return canonical_json(row if question.reference is None else {**row, "reference": question.reference})
