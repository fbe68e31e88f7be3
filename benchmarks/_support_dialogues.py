"""Dialogues of sgd_dialogues as chats of a service desk, and a judge that reads what a reply does; for support_tone.py.

The system turn names the service and what may be called with which slots. Where the desk calls its service, the
assistant's turn is a tool call and the tool's turn holds the number of results and the first of them.
"""

from __future__ import annotations

import json
import random
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

ARCHIVE = Path("sgd_dialogues") / "sgd_dialogues_json.zip"


@dataclass(frozen=True)
class Case:
    """One turn of the desk with what came before it, and what the annotators say it does.

    Attributes:
        before: turns before it.
        said: its text, or the call as (method, arguments).
        acts: kinds of what it does, such as REQUEST.
        asked: slots it asks for.
        values: texts of slot values that it names.
        slots: all slots of the service.
    """

    before: list[dict[str, Any]]
    said: str
    call: tuple[str, dict[str, str]] | None = None
    acts: frozenset[str] = frozenset()
    asked: frozenset[str] = frozenset()
    values: tuple[str, ...] = ()
    slots: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Dialogue:
    """One dialogue: `messages` in OpenAI's form, the desk's turns as cases, and the service."""

    service: str
    messages: list[dict[str, Any]]
    cases: list[Case] = field(default_factory=list)


def _system(service: dict[str, Any]) -> str:
    """Return the desk's instructions: the service, and each call with its slots (optional ones with ?)."""
    lines = [service["service_name"].split("_")[0]]
    for intent in service["intents"]:
        slots = [*intent["required_slots"], *(f"{slot}?" for slot in intent["optional_slots"])]
        lines.append(f"{intent['name']}({', '.join(slots)})")
    return "\n".join(lines)


def _news(results: list[dict[str, str]], arguments: dict[str, str]) -> dict[str, str]:
    """Return what the first result tells beyond what was asked with."""
    return {slot: value for slot, value in results[0].items() if arguments.get(slot) != value} if results else {}


def _read(dialogue: dict[str, Any], service: dict[str, Any]) -> Dialogue:
    messages: list[dict[str, Any]] = [{"role": "system", "content": _system(service)}]
    cases: list[Case] = []
    for turn in dialogue["turns"]:
        frame = turn["frames"][0]
        if turn["speaker"] == "USER":
            messages.append({"role": "user", "content": turn["utterance"]})
            continue
        if "service_call" in frame:
            method, arguments = frame["service_call"]["method"], frame["service_call"]["parameters"]
            cases.append(Case(list(messages), "", (method, arguments)))
            results = frame["service_results"]
            messages += [
                {"role": "assistant", "content": None, "tool_calls": [
                    {"type": "function", "function": {"name": method, "arguments": arguments}}]},
                {"role": "tool", "content": json.dumps({"count": len(results), **_news(results, arguments)})}]
        actions = frame["actions"]
        cases.append(Case(list(messages), turn["utterance"], None, frozenset(a["act"] for a in actions),
                          frozenset(a["slot"] for a in actions if a["act"] == "REQUEST"),
                          tuple(a["values"][0] for a in actions
                                if a["act"] in ("INFORM", "OFFER", "CONFIRM") and a["values"]),
                          frozenset(slot["name"] for slot in service["slots"])))
        messages.append({"role": "assistant", "content": turn["utterance"]})
    return Dialogue(service["service_name"], messages, cases)


def dialogues(folder: Path, part: str) -> Iterator[Dialogue]:
    """Yield the dialogues of one service each of `train`, `dev` or `test`, in a fixed order."""
    with zipfile.ZipFile(folder / ARCHIVE) as packed:
        services = {service["service_name"]: service for service in json.loads(packed.read(f"{part}/schema.json"))}
        for name in sorted(name for name in packed.namelist() if name.startswith(f"{part}/dialogues")):
            for dialogue in json.loads(packed.read(name)):
                if len(dialogue["services"]) == 1 and all(turn["utterance"].strip() for turn in dialogue["turns"]):
                    yield _read(dialogue, services[dialogue["services"][0]])


class Judge:
    """Reads from a reply which acts it does and which slots it asks for; learnt from replies of the training part.

    Words and word pairs, one logistic regression a label; a label counts from probability 0.5.
    """

    def __init__(self, cases: list[Case], seed: int = 0) -> None:
        self._cases = random.Random(seed).sample(cases, min(6000, len(cases)))

    def _labels(self, case: Case) -> list[str]:
        return [*case.acts, *(f"asks {slot}" for slot in case.asked)]

    @cached_property
    def _parts(self) -> Any:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.multiclass import OneVsRestClassifier
        from sklearn.preprocessing import MultiLabelBinarizer

        seen: dict[str, int] = {}
        for case in self._cases:
            for label in self._labels(case):
                seen[label] = seen.get(label, 0) + 1
        names = MultiLabelBinarizer(classes=sorted(label for label, count in seen.items() if count >= 20))
        known = set(names.classes)
        wanted = names.fit_transform([[each for each in self._labels(case) if each in known] for case in self._cases])
        words = TfidfVectorizer(ngram_range=(1, 2), min_df=3, sublinear_tf=True, token_pattern=r"\w+|[?!.]")
        learnt = OneVsRestClassifier(LogisticRegression(C=30, max_iter=200, solver="liblinear"))
        learnt.fit(words.fit_transform([case.said for case in self._cases]), wanted)
        return words, learnt, list(names.classes)

    @property
    def slots(self) -> frozenset[str]:
        """Slots whose questions it knows."""
        return frozenset(name.removeprefix("asks ") for name in self._parts[2] if name.startswith("asks "))

    def read(self, replies: list[str], cases: list[Case]) -> list[tuple[frozenset[str], str]]:
        """Return the acts of each reply and the slot of its case's service that it likeliest asks for, "" for none."""
        words, learnt, names = self._parts
        found = []
        for row, case in zip(learnt.predict_proba(words.transform(replies)), cases, strict=True):
            acts = frozenset(name for name, chance in zip(names, row, strict=True)
                             if chance > 0.5 and not name.startswith("asks "))
            asked = [(chance, name.removeprefix("asks ")) for name, chance in zip(names, row, strict=True)
                     if name.startswith("asks ") and name.removeprefix("asks ") in case.slots]
            found.append((acts, max(asked)[1] if asked and "REQUEST" in acts else ""))
        return found


def named(reply: str, values: tuple[str, ...]) -> float:
    """Return the share of values that a reply names, whatever the case and spacing."""
    flat = re.sub(r"\s+", " ", reply.lower())
    return sum(re.sub(r"\s+", " ", value.lower()) in flat for value in values) / len(values)
