"""Preferences of real people for preferences.py: read, cleaned, divided by prompt; and plain text to pretrain on.

BOTTEGA_DATA/hh_rlhf_harmless_test (Anthropic, MIT) and BOTTEGA_DATA/preference_small (PandaLM by majority of three,
FineGrainedRLHF without its passages, LLaMA-Factory). Pairs of one first message always stand on one side of a split.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

FOLDS = 3
_NOVELS = 3_000_000  # bytes of novels among the text


@dataclass(frozen=True)
class Pair:
    """Two answers to one conversation; `source` is the data set, `fold` (0..2) follows from the first message."""

    source: str
    messages: tuple[tuple[str, str], ...]  # role, content
    chosen: str
    rejected: str

    @property
    def fold(self) -> int:
        """Which part of the data holds this pair out."""
        return int(hashlib.sha256(self.messages[0][1].encode()).hexdigest()[:8], 16) % FOLDS

    def turns(self) -> list[dict[str, str]]:
        """Return the conversation before the answers."""
        return [{"role": role, "content": content} for role, content in self.messages]

    def plain(self) -> dict[str, Any]:
        """Return a row of a preference file."""
        return {"messages": self.turns(), "chosen": self.chosen, "rejected": self.rejected}


def _turns(text: str) -> list[tuple[str, str]]:
    parts = re.split(r"\n\n(Human|Assistant):", text)
    return [({"Human": "user", "Assistant": "assistant"}[role], content.strip())
            for role, content in zip(parts[1::2], parts[2::2], strict=True)]


def _hh(data: Path) -> Iterator[Pair]:
    with gzip.open(data / "hh_rlhf_harmless_test" / "harmless_base_test.jsonl.gz", "rt", encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            chosen, rejected = _turns(row["chosen"]), _turns(row["rejected"])
            if chosen[:-1] == rejected[:-1] and chosen[-1][0] == rejected[-1][0] == "assistant":
                yield Pair("hh-harmless", tuple(chosen[:-1]), chosen[-1][1], rejected[-1][1])


def _pandalm(data: Path) -> Iterator[Pair]:
    for row in json.loads((data / "preference_small" / "pandalm_testset_v1.json").read_text(encoding="utf-8")):
        votes = [row[f"annotator{number}"] for number in (1, 2, 3)]
        winner = next((vote for vote in (1, 2) if votes.count(vote) >= 2), None)
        if winner is not None:
            prompt = "\n\n".join(part for part in (row["instruction"], row["input"]) if part)
            answers = [str(row["response1"]), str(row["response2"])]
            yield Pair("pandalm", (("user", prompt),), answers[winner - 1], answers[2 - winner])


def _finegrained(data: Path) -> Iterator[Pair]:
    path = data / "preference_small" / "finegrained_qa_dev_feedback.json"
    for row in json.loads(path.read_text(encoding="utf-8")):
        for (one, two), vote in zip(combinations((1, 2, 3, 4), 2), row["preference"], strict=True):
            if vote:
                chosen, rejected = (one, two) if vote == 1 else (two, one)
                yield Pair("finegrained-qa", (("user", row["question"]),), row[f"prediction {chosen}"],
                           row[f"prediction {rejected}"])


def _llamafactory(data: Path) -> Iterator[Pair]:
    roles = {"human": "user", "gpt": "assistant", "system": "system"}
    path = data / "preference_small" / "llamafactory_dpo_en_demo.json"
    for row in json.loads(path.read_text(encoding="utf-8")):
        yield Pair("llama-factory", tuple((roles[turn["from"]], turn["value"]) for turn in row["conversations"]),
                   row["chosen"]["value"], row["rejected"]["value"])


def pairs(data: Path) -> list[Pair]:
    """Return all pairs with two answers that differ, in the files' order."""
    found = [pair for read in (_hh, _pandalm, _finegrained, _llamafactory) for pair in read(data)]
    return [pair for pair in found if pair.chosen.strip() and pair.rejected.strip() and pair.chosen != pair.rejected
            and pair.messages and all(content for _, content in pair.messages)]


def text(data: Path) -> Iterator[str]:
    """Yield documents to pretrain on; no preference is among them."""
    for name in ("gpteacher_roleplay", "llamafactory_alpaca_en_demo"):
        for row in json.loads((data / "instruct_small" / f"{name}.json").read_text(encoding="utf-8")):
            asked = row["instruction"], row.get("input", ""), row.get("output") or row.get("response", "")
            yield "\n\n".join(str(part) for part in asked if part)
    for line in (data / "instruct_small" / "llamafactory_c4_demo.jsonl").read_text(encoding="utf-8").splitlines():
        yield json.loads(line)["text"]
    yield from (data / "instruct_small" / "llamafactory_wiki_demo.txt").read_text(encoding="utf-8").split("\n\n\n")
    for name in ("pratham_books_en_md.zip", "african_storybook_en_md.zip"):
        yield from _members(data / "children_stories" / name)
    with zipfile.ZipFile(data / "fairytaleqa" / "fairytaleqa_csv.zip") as archive:
        for name in sorted(archive.namelist()):
            if "section" in name and name.endswith(".csv"):
                rows = csv.DictReader(io.StringIO(archive.read(name).decode("utf-8", "replace")))
                yield "\n\n".join(next((row[key] for key in ("text", "section") if row.get(key)), "") for row in rows)
    yield from _members(data / "english_novels" / "english_novels_txt.zip", _NOVELS)


def _members(path: Path, most: int | None = None) -> Iterator[str]:
    """Yield the texts of an archive in the order of a hash of their names, until `most` bytes."""
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith((".md", ".txt")) and "README" not in name]
        for name in sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest()):
            content = archive.read(name).decode("utf-8", "replace")
            if most is not None and (most := most - len(content)) < 0:
                return
            yield content
