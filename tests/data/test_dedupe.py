"""Copies are found and nothing else: on made-up texts whose true similarity is known."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from data_helpers import everything, prose

from bottega.data.dataset import Dataset
from bottega.data.dedupe import Banding
from bottega.data.words import hash_words, shingles, split_words

Make = Callable[..., Dataset]


def swapped(text: str, share: float, seed: int) -> str:
    """Return a text with a share of its words replaced."""
    draw = random.Random(seed)
    words = text.split()
    for place in draw.sample(range(len(words)), max(1, round(share * len(words)))):
        words[place] = f"neu{seed}x{place}"
    return " ".join(words)


def jaccard(a: str, b: str) -> float:
    x, y = (set(shingles(hash_words(split_words(text))).tolist()) for text in (a, b))
    return len(x & y) / len(x | y)


def test_near_copies_are_found_and_nothing_is_joined_by_chance(tmp_path: Path, make: Make) -> None:
    originals = [prose(seed, 150) for seed in range(150)]
    # Texts of one template: many words in common, few 5-grams; they must stay apart.
    template = prose(9000, 60).split()
    alike = [" ".join(f"{word} {random.Random(f'{seed}{i}').choice('abcdefgh')}{seed}" if i % 4 == 0 else word
                      for i, word in enumerate(template)) for seed in range(50)]
    copies = [(i, swapped(text, 0.01, i)) for i, text in enumerate(originals[:100])]
    rows = originals + alike + [text for _, text in copies]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps({"text": text}) for text in rows))
    found = everything(make(path))
    dropped = {int(row["origin"].rsplit("=", 1)[1]) - 1 for row in found if not row["keep"]}
    first_copy = len(originals) + len(alike)
    assert all(number >= first_copy for number in dropped)  # zero false merges; the original survives
    true = {first_copy + place for place, (i, text) in enumerate(copies) if jaccard(originals[i], text) >= 0.8}
    assert len(true) > 80
    assert dropped <= true
    assert len(dropped) >= 0.9 * len(true)
    by_id = {row["id"]: row for row in found}
    for row in found:
        if not row["keep"]:
            assert row["reason"] == "near-duplicate"
            assert row["cluster_size"] == 2
            assert by_id[row["cluster"]]["keep"]


def test_exact_copies_and_the_switches(tmp_path: Path, make: Make) -> None:
    text = prose(1)
    path = tmp_path / "rows.jsonl"
    rows = [text, text + "\r\n", prose(2), text]
    path.write_text("\n".join(json.dumps({"text": row}) for row in rows))
    assert make(path).card["bottega"]["stages"]["dropped"] == {"exact-duplicate": 2}
    assert make(path, near_duplicates=0).card["bottega"]["stages"]["dropped"] == {"exact-duplicate": 2}
    assert make(path, exact_duplicates=False).card["bottega"]["stages"]["dropped"] == {"near-duplicate": 2}
    assert make(path, exact_duplicates=False, near_duplicates=0).card["bottega"]["stages"]["dropped"] == {}


def test_the_survivor_is_one_that_passes_the_rules(tmp_path: Path, make: Make) -> None:
    """The first of two near copies is dropped by a rule: the second must live."""
    first = prose(1, 200)
    second = first + " Kurz."
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps({"text": text}) for text in (first, second, prose(2, 300))))
    words = len(split_words(first))
    rows = everything(make(path, rules={"that-one": f"words == {words}"}))
    assert [row["reason"] for row in rows][:2] == ["that-one", None]
    assert rows[0]["cluster"] == rows[1]["cluster"]


def test_conversations_of_one_template_are_not_near_copies(tmp_path: Path, make: Make) -> None:
    path = tmp_path / "chats.jsonl"
    body = prose(1, 100)
    path.write_text("\n".join(json.dumps({"prompt": f"{body} {n}", "completion": f"{body} {n}"}) for n in range(10)))
    assert make(path).card["bottega"]["stages"]["kept"] == 10


def test_decontamination(tmp_path: Path, make: Make) -> None:
    secret = " ".join(prose(50, 40).split()[:20])
    texts = [prose(1, 50), prose(2, 60) + " " + secret.upper() + " " + prose(3, 60),
             prose(4, 50) + " " + " ".join(secret.split()[:12])]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps({"text": text}) for text in texts))
    evaluation = tmp_path / "evaluation"
    evaluation.mkdir()
    (evaluation / "test.jsonl").write_text(json.dumps({"text": secret}) + "\n")
    rows = everything(make(path, decontaminate=[str(evaluation)]))
    assert [row["reason"] for row in rows] == [None, "contaminated", None]
    assert rows[1]["overlap"] == len(split_words(secret)) - 12
    assert make(path).card["bottega"]["stages"]["dropped"] == {}


@pytest.mark.parametrize(("threshold", "expected"), [(0.8, (14, 8)), (0.5, (37, 3)), (1.0, (7, 16))])
def test_banding_reaches_its_recall(threshold: float, expected: tuple[int, int]) -> None:
    banding = Banding.of(threshold)
    assert banding is not None
    assert (banding.bands, banding.rows) == expected
    assert Banding.of(0) is None
