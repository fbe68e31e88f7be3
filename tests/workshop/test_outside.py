"""Judgements made elsewhere become sets with their raters, ties and disagreements; real files are read whole."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bottega.core.errors import BottegaError, CorruptError, DataError, InputError
from bottega.core.lineage import Lineage
from bottega.core.recipe import DataSpec
from bottega.data.pipeline import prepare
from bottega.workshop import outside
from bottega.workshop.judgements import Judgement, report
from bottega.workshop.outside import Imported, bring_in


def panda(count: int, votes: list[tuple[int, int, int]]) -> list[dict[str, Any]]:
    """Return rows of PandaLM's form with these votes in turn."""
    return [{"idx": number, "instruction": f"Task {number}?", "input": "", "response1": f"a long answer {number}",
             "response2": f"short {number}", **{f"annotator{place + 1}": vote for place, vote in
                                                enumerate(votes[number % len(votes)])}} for number in range(count)]


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text(json.dumps(rows) if path.suffix == ".json" else "\n".join(map(json.dumps, rows)))
    return path


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().split("\n") if line]


def rows(found: Imported) -> list[dict[str, Any]]:
    name = "ratings" if found.card["kind"] == "rating" else "preferences"
    return [*lines(found.path / f"{name}.jsonl"), *lines(found.path / "held-out.jsonl")]


def test_each_vote_is_kept_with_its_rater(tmp_path: Path) -> None:
    file = write(tmp_path / "panda.json", panda(40, [(1, 1, 1), (2, 2, 1), (0, 0, 0), (1, 0, 2)]))
    found = bring_in(file, tmp_path, licence="Apache-2.0")
    card = found.card
    assert (card["judgements"], card["items"], card["raters"], card["ties"], card["disagreements"]) == (
        120, 40, 3, 40, 20)
    made = rows(found)
    assert len(made) == 80 == card["training"] + card["held_out"]
    assert Counter(row["rater"] for row in made) == {"annotator1": 30, "annotator2": 20, "annotator3": 30}
    first = next(row for row in made if row["messages"][0]["content"] == "Task 1?" and row["rater"] == "annotator3")
    assert (first["chosen"], first["rejected"]) == ("a long answer 1", "short 1")
    assert len(found.judgements()) == 120
    assert report(found.judgements())["agreement"] == card["agreement"]
    prompts = [{row["messages"][0]["content"] for row in lines(found.path / name)}
               for name in ("preferences.jsonl", "held-out.jsonl")]
    assert not prompts[0] & prompts[1]
    born = Lineage.load(found.path)
    assert [licence.spdx for licence in born.licences] == ["Apache-2.0"]
    assert born.parameters["file"] == "panda.json"
    assert bring_in(file, tmp_path, licence="Apache-2.0").path == found.path
    (found.path / "judgements.jsonl").write_text("")
    with pytest.raises(CorruptError):
        Imported.open(found.path)


def test_a_majority_has_a_margin_and_no_ties(tmp_path: Path) -> None:
    file = write(tmp_path / "panda.json", panda(40, [(1, 1, 1), (2, 2, 1), (0, 0, 0), (1, 0, 2)]))
    made = rows(bring_in(file, tmp_path, votes="majority"))
    assert len(made) == 20
    assert Counter((row["chosen"].split()[0], round(row["margin"], 3)) for row in made) == {
        ("a", 1.0): 10, ("short", 0.333): 10}
    assert not any("rater" in row for row in made)
    with pytest.raises(InputError, match="majority has no rater"):
        bring_in(file, tmp_path, votes="majority", split="raters")


def test_raters_can_be_held_out(tmp_path: Path) -> None:
    found = bring_in(write(tmp_path / "panda.json", panda(40, [(1, 1, 2)])), tmp_path, split="raters")
    sides = [{row["rater"] for row in lines(found.path / name)} for name in ("preferences.jsonl", "held-out.jsonl")]
    assert all(sides)
    assert not sides[0] & sides[1]
    assert len(sides[0] | sides[1]) == 3
    one = write(tmp_path / "one.jsonl", [{"prompt": f"q{n}", "chosen": "a", "rejected": "b"} for n in range(9)])
    with pytest.raises(InputError, match="is one rater"):
        bring_in(one, tmp_path, split="raters")


def test_the_sets_are_data_of_recipes(tmp_path: Path) -> None:
    found = bring_in(write(tmp_path / "panda.json", panda(60, [(1, 1, 2), (2, 2, 2)])), tmp_path)
    spec = DataSpec(sources=[str(found.path / "preferences.jsonl")], validation=0.3)
    dataset = prepare(spec, home=tmp_path, jobs=1)
    assert dataset.kind == "preference"
    kept = [row for split in ("train", "validation") for row in dataset.rows(split)]  # type: ignore[arg-type]
    assert len(kept) == found.card["training"]  # no rater's row is taken for a copy of another's
    assert {row["rater"] for row in kept} == {"annotator1", "annotator2", "annotator3"}
    assert [parent.name for parent in dataset.lineage.parents] == [found.path.name]
    good = [{"messages": [{"role": "user", "content": f"q{n}"}, {"role": "assistant", "content": "a"}],
             "label": n % 3 > 0} for n in range(40)]
    rated = bring_in(write(tmp_path / "kto.json", good), tmp_path)
    assert rated.card["kind"] == "rating"
    assert Counter(row["desirable"] for row in rows(rated)) == {True: 26, False: 14}
    spec = DataSpec(sources=[str(rated.path / "ratings.jsonl")], validation=0.3)
    assert prepare(spec, home=tmp_path, jobs=1).kind == "rating"


def test_corrections_and_critiques(tmp_path: Path) -> None:
    row = {"question": "q?", "passages": [["title", "Some", "facts."]], **{f"prediction {n}": f"answer {n}" for n in
           range(1, 5)}, "preference": [1, 1, 1, 2, 0, 2], "feedback": {"corrected-prediction": "right", "errors": [
               {"error type": "Irrelevant", "explanation": "", "start": 0, "end": 6}]}}
    found = bring_in(write(tmp_path / "fine.json", [row, {**row, "question": "p?"}, {**row, "preference": [1]}]),
                     tmp_path)
    assert found.card["skipped"] == {"malformed": 1}
    assert (found.card["judgements"], found.card["ties"], found.card["critiques"]) == (14, 2, 2)
    corrected = [row for row in rows(found) if row["chosen"] == "right"]
    assert [row["rejected"] for row in corrected] == ["answer 1", "answer 1"]
    assert corrected[0]["messages"][0]["content"].endswith("?\n\nSome facts.")


def test_circles_and_leanings() -> None:
    said = [Judgement(f"{a}{b}", "r", [{"role": "user", "content": "q"}], (a, b), 1)
            for a, b in (("a", "bb"), ("bb", "ccc"), ("ccc", "a"))]
    told = report(said)
    assert told["cycles"]["value"] == 1.0
    assert told["leaning"]["first"]["value"] == 1.0
    assert told["leaning"]["longer"]["value"] == pytest.approx(1 / 3)
    assert told["agreement"] is None
    assert report([*said[:2], Judgement("x", "r", said[0].messages, ("ccc", "a"), -1)])["cycles"]["value"] == 0.0


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not there"):
        bring_in(tmp_path / "none.json", tmp_path)
    file = write(tmp_path / "chat.json", [{"messages": [{"role": "user", "content": "q"},
                                                        {"role": "assistant", "content": "a"}]}])
    with pytest.raises(DataError, match=r"chat\.json:1: the row is a chat"):
        bring_in(file, tmp_path)
    with pytest.raises(InputError, match="did you mean 'pandalm'"):
        bring_in(file, tmp_path, form="pandlm")
    with pytest.raises(DataError, match="KeyError"):
        outside.read(
            write(tmp_path / "f.json", [{"question": "q", **{f"prediction {n}": "a" for n in range(1, 5)}}]),
            "finegrained")
    mixed = write(tmp_path / "mixed.jsonl", [{"prompt": "q", "chosen": "a", "rejected": "b"},
                                             {"prompt": "q", "completion": "a", "label": True}])
    with pytest.raises(BottegaError, match="of one answer and of two"):
        bring_in(mixed, tmp_path)


@pytest.mark.parametrize(("name", "judgements", "items", "raters", "ties"), [
    ("preference_small/pandalm_testset_v1.json", 2976, 992, 3, None),
    ("preference_small/finegrained_qa_dev_feedback.json", None, None, 1, 384),
    ("preference_small/llmbar_Natural.json", 100, 100, 1, 0),
    ("preference_small/llamafactory_dpo_en_demo.json", 300, 295, 1, 0),
    ("preference_small/llamafactory_kto_en_demo.json", 300, 300, 1, 0),
    ("hh_rlhf_harmless_test/harmless_base_test.jsonl.gz", 2303, 2303, 1, 0),
])
def test_real_files(name: str, judgements: int | None, items: int | None, raters: int, ties: int | None,
                    real_data: Path, tmp_path: Path) -> None:
    card = bring_in(real_data / name, tmp_path).card
    assert (card["judgements"], card["items"]) == (judgements or card["judgements"], items or card["items"])
    assert (card["raters"], card["ties"]) == (raters, card["ties"] if ties is None else ties)
    assert card["training"] > 2 * card["held_out"] > 20
    if raters > 1:
        assert 0.8 < card["agreement"]["alpha"]["value"] < 0.9
