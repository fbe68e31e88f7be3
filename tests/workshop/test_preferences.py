"""From feedback to a set of preferences: what is used, what is held out, and that the same feedback is the same set."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bottega.core.errors import InputError
from bottega.core.files import verify_manifest
from bottega.core.lineage import Lineage, ancestry
from bottega.core.recipe import DataSpec
from bottega.data.pipeline import prepare
from bottega.data.rows import read_rows
from bottega.workshop import feedback, preferences
from bottega.workshop.feedback import Feedback
from bottega.workshop.store import Store
from tests.workshop.rated import choose, record


def _rate(store: Store, count: int) -> None:
    for number in range(count):
        record(store, f"bt-{number}", f"Question {number}?", f"Good {number}.", f"Bad {number}.")
        choose(store, f"bt-{number}.0", f"bt-{number}.1")


def test_the_same_feedback_gives_the_same_verified_folder(store: Store, own_workshop: Path) -> None:
    _rate(store, 12)
    found = preferences.export(store, own_workshop)
    assert found.path == own_workshop / "feedback" / found.digest[:16]
    assert found.pairs + found.held_out == 12
    assert found.held_out >= 3
    written = (found.path / "lineage.json").stat().st_mtime_ns
    again = preferences.export(store, own_workshop)
    assert again == found
    assert (found.path / "lineage.json").stat().st_mtime_ns == written, "it was not written again"
    verify_manifest(found.path)
    record(store, "bt-more", "One more?", "Yes.", "No.")
    choose(store, "bt-more.0", "bt-more.1")
    assert preferences.export(store, own_workshop).digest != found.digest


def test_a_damaged_set_is_written_again(store: Store, own_workshop: Path) -> None:
    _rate(store, 8)
    found = preferences.export(store, own_workshop)
    found.training_file.write_text("{}\n")
    assert preferences.export(store, own_workshop).digest == found.digest
    verify_manifest(found.path)


def test_the_files_are_preferences_as_training_reads_them(store: Store, own_workshop: Path) -> None:
    _rate(store, 9)
    record(store, "bt-odd", "Half of a pair: \ud800?", "Line one\u2028and\ntwo.", "No.")
    choose(store, "bt-odd.0", "bt-odd.1")
    found = preferences.export(store, own_workshop)
    files = (preferences.TRAINING, preferences.HELD_OUT)
    rows = [row for name in files for row in read_rows(found.path / name, "text")]
    assert len(rows) == 10
    assert {(row.kind, row.fault) for row in rows} == {("preference", None)}
    texts = {json.loads(row.text)["chosen"] for row in rows}
    assert {"Good 0.", "Line one\nand\ntwo."} <= texts  # in normal form
    assert [row["chosen"] for name in files for row in found.rows(name)
            if "Half" in row["messages"][0]["content"]] == ["Line one\u2028and\ntwo."]


def test_edits_teach_and_consent_is_asked_for(store: Store, own_workshop: Path) -> None:
    _rate(store, 8)
    record(store, "bt-edit", "Who?", "Nobody knows.")
    feedback.add(store, Feedback(kind="edit", output="bt-edit.0", text="Ada Lovelace."), "ada")
    record(store, "bt-private", "My illness?", "Rest.", "Run.")
    choose(store, "bt-private.0", "bt-private.1", consent=False)
    record(store, "bt-empty", "Say nothing.", "Something.", " ")
    choose(store, "bt-empty.0", "bt-empty.1")
    found = preferences.collect(store)
    assert ("Ada Lovelace.", "Nobody knows.") in {(row["chosen"], row["rejected"]) for row in found.pairs}
    assert found.left_out == {"an empty answer": 1, "without consent": 1}
    assert len(found.pairs) == 9
    everything = "".join(file.read_text() for file in preferences.export(store, own_workshop).path.iterdir())
    assert "illness" not in everything


def test_raters_who_disagree_are_reported_and_the_majority_stays(store: Store) -> None:
    for id in ("bt-a", "bt-b"):
        record(store, id, f"Which of {id}?", "This.", "That.")
    for rater, better, worse in (("ada", "bt-a.0", "bt-a.1"), ("bob", "bt-a.1", "bt-a.0"), ("eve", "bt-a.0", "bt-a.1"),
                                 ("ada", "bt-b.0", "bt-b.1"), ("bob", "bt-b.1", "bt-b.0")):
        choose(store, better, worse, rater)
    found = preferences.collect(store)
    assert [(row["messages"][0]["content"], row["chosen"]) for row in found.pairs] == [("Which of bt-a?", "This.")]
    assert len(found.pairs[0]["feedback"]) == 2
    assert [(row["for"], row["against"], row["kept"]) for row in found.contradictions] == [(2, 1, True), (1, 1, False)]
    assert found.left_out == {"contradicted": 3, "the same from several raters": 1}


def test_a_rater_who_changed_their_mind_counts_once(store: Store) -> None:
    for id in ("bt-a", "bt-b"):  # two requests with equal answers: the store cannot know that they are the same
        record(store, id, "Which?", "This.", "That.")
    choose(store, "bt-a.0", "bt-a.1")
    choose(store, "bt-b.1", "bt-b.0")
    found = preferences.collect(store)
    assert [row["chosen"] for row in found.pairs] == ["That."]
    assert found.left_out == {"said again": 1}


def test_only_the_models_asked_for(store: Store) -> None:
    _rate(store, 2)
    record(store, "bt-other", "Another?", "Yes.", "No.", model="other", digest="e" * 64)
    choose(store, "bt-other.0", "bt-other.1")
    assert len(preferences.collect(store).pairs) == 3
    found = preferences.collect(store, ["other"])
    assert ([row["chosen"] for row in found.pairs], found.models) == (["Yes."], ["e" * 64])


def test_too_few_pairs_say_how_many_and_how_to_give_more(store: Store, own_workshop: Path) -> None:
    _rate(store, 7)
    record(store, "bt-private", "Mine?", "Yes.", "No.")
    choose(store, "bt-private.0", "bt-private.1", consent=False)
    with pytest.raises(InputError, match=r"are 7 preference pairs.*at least 8") as error:
        preferences.export(store, own_workshop)
    assert error.value.where == "1 without consent"
    assert "/v1/feedback" in error.value.fix
    assert not (own_workshop / "feedback").exists()


def test_pairs_on_one_prompt_alone_are_refused(store: Store, own_workshop: Path) -> None:
    for number in range(9):
        record(store, f"bt-{number}", "The only question?", f"Good {number}.", f"Bad {number}.")
        choose(store, f"bt-{number}.0", f"bt-{number}.1")
    with pytest.raises(InputError, match="about 1 different prompts"):
        preferences.export(store, own_workshop)


def test_lineage_names_feedback_and_raters_without_their_names(store: Store, own_workshop: Path) -> None:
    _rate(store, 8)
    found = preferences.export(store, own_workshop, licence="CC0-1.0")
    born = Lineage.load(found.path)
    assert (born.kind, born.step, born.parameters["models"]) == ("dataset", "feedback", ["d" * 64])
    assert [licence.spdx for licence in born.licences] == ["CC0-1.0"]
    rater, = born.parameters["raters"]
    assert '"ada"' not in (found.path / "lineage.json").read_text()
    guesses = [hashlib.blake2b(b"ada", key=born.parameters["feedback"][:64].encode(), digest_size=8).hexdigest(),
               hashlib.blake2b(f"{born.parameters['feedback']} ada".encode(), digest_size=8).hexdigest()]
    assert rater not in guesses, "what lies in the folder does not give the name away"
    shutil.rmtree(found.path)
    again = preferences.export(store, own_workshop, licence="CC0-1.0")
    later = Lineage.load(again.path).model_copy(update={"made": born.made})  # the clock may have gone on by a second
    assert (again, later) == (found, born)


@given(st.lists(st.text(max_size=6), unique=True, min_size=1, max_size=60), st.data())
def test_more_feedback_never_holds_out_a_prompt_that_was_learnt_from(prompts: list[str], data: st.DataObject) -> None:
    some = data.draw(st.sets(st.sampled_from(prompts), min_size=1))
    before, after = preferences.held_out(some), preferences.held_out(prompts)
    assert after & some <= before
    assert len(after) >= min(3, len(prompts))


def test_about_a_quarter_is_held_out() -> None:
    held_out = preferences.held_out([f"prompt {number}" for number in range(2000)])
    assert 440 <= len(held_out) <= 560


def test_data_prepared_from_a_set_has_it_as_parent(store: Store, own_workshop: Path, tmp_path: Path) -> None:
    _rate(store, 8)
    found = preferences.export(store, own_workshop, licence="CC0-1.0")
    dataset = prepare(DataSpec(sources=[str(found.training_file)], near_duplicates=0), home=own_workshop)
    assert [born.step for born in ancestry(dataset.path, own_workshop)] == ["prepare", "feedback"]
    assert "CC0-1.0" in {licence.spdx for licence in dataset.lineage.licences}
    for name in ("lineage.json", "manifest.json"):  # a user's own files under these names are nobody's parent
        (tmp_path / name).write_text('{"text": "mine"}')
    (tmp_path / "own.jsonl").write_text(found.training_file.read_text())
    own = prepare(DataSpec(sources=[str(tmp_path / "own.jsonl")], near_duplicates=0), home=own_workshop)
    assert own.lineage.parents == []
