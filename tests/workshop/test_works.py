"""Works come back as they were recorded; retention takes content away for good."""

import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bottega.core.errors import InputError, NotFoundError
from bottega.workshop import audit, feedback, works
from bottega.workshop import settings as workshop_settings
from bottega.workshop.feedback import Feedback
from bottega.workshop.store import Store
from bottega.workshop.works import Work, WorkOutput
from tests.workshop.conftest import make_work, sql

HARD = ["naïve café 日本語 العربية 🎨👩‍👩‍👧",
        "null\0inside", "\0", "\ud800 alone", "\udcff", "\x01json:", "\x01json:\"x\"",
        "\ufffd\ufeff\u202e", "a" * 3_000_000, "", "'; DROP TABLE works; --", "%s %(id)s :name \\ \"", "\r\n\t\x1b\x7f"]


def test_a_work_comes_back_as_it_was_recorded(store: Store, work: Work) -> None:
    assert works.work(store, work.id) == work
    found, output = works.output(store, "bt-one.1")
    assert found == work
    assert output == work.outputs[1]


@pytest.mark.parametrize("text", HARD, ids=range(len(HARD)))
def test_any_text_survives(store: Store, text: str) -> None:
    steps = [{"token_text": text[:1000]}]
    made = make_work(prompt=text, error=text[:1000], principal=text[:100], alias=text[:100],
                     outputs=0)
    made = replace(made, outputs=[WorkOutput("bt-one.0", 0, text, "stop", 0.0, [], steps)])
    works.record(store, made)
    assert works.work(store, made.id) == made
    assert works.works(store, alias=text[:100])[0].id == made.id
    assert audit.verify(store) == 1


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(alphabet=st.characters(codec=None), max_size=60), seed=st.integers(0, 2**63 - 1),
       score=st.floats(allow_nan=False, allow_infinity=False))
def test_any_values_survive(store: Store, text: str, seed: int, score: float) -> None:
    id = f"bt-{uuid.uuid4()}"
    made = make_work(id, prompt=text, seed=seed, outputs=0)
    made = replace(made, outputs=[WorkOutput(f"{id}.0", 0, text, text, score, [seed], [{text: score}])])
    works.record(store, made)
    assert works.work(store, id) == made


def test_times_come_back_in_utc(store: Store) -> None:
    moment = datetime(2026, 3, 29, 2, 30, 0, 123456, timezone(timedelta(hours=5, minutes=30)))
    works.record(store, make_work(created=moment))
    found = works.work(store, "bt-one").created
    assert found == moment
    assert found.utcoffset() == timedelta(0)
    with pytest.raises(InputError, match="no time zone"):
        works.record(store, make_work("bt-two", created=datetime(2026, 1, 1)))


def test_unknown_ids_are_named(store: Store, work: Work) -> None:
    with pytest.raises(NotFoundError, match="no work 'bt-two'"):
        works.work(store, "bt-two")
    for id in ("bt-one.2", "bt-one", "", "\0", "\ud800", "x" * 100_000, "' OR 1=1 --"):
        with pytest.raises(NotFoundError, match="there is no output"):
            works.output(store, id)


def test_an_id_is_recorded_once(store: Store, work: Work) -> None:
    with pytest.raises(InputError, match="bt-one is recorded already"):
        works.record(store, make_work(error="other"))
    assert works.work(store, "bt-one") == work
    assert audit.verify(store) == 1


def test_works_are_listed_newest_first_in_pages(store: Store) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    for index in range(7):
        works.record(store, make_work(f"bt-{index}", created=start + timedelta(microseconds=index),
                                      alias="even" if index % 2 == 0 else "odd"))
    page = works.works(store, limit=3)
    assert [made.id for made in page] == ["bt-6", "bt-5", "bt-4"]
    assert all(output.steps is None and output.text for made in page for output in made.outputs)
    assert [made.id for made in works.works(store, limit=3, before=page[-1].created)] == ["bt-3", "bt-2", "bt-1"]
    assert [made.id for made in works.works(store, alias="odd")] == ["bt-5", "bt-3", "bt-1"]
    assert works.works(store, limit=10**30, before=start) == []
    with pytest.raises(InputError, match="limit 0"):
        works.works(store, limit=0)


def test_the_audit_names_the_work_and_the_verdicts_but_no_content(store: Store, work: Work) -> None:
    event, = audit.events(store, action="request")
    assert (event.actor, event.subject) == ("ada", "bt-one")
    assert event.detail["verdicts"] == work.verdicts
    assert "bottega?" not in str(event)
    assert "Answer" not in str(event)


def without_content(work: Work) -> Work:
    return replace(work, error="", request={"controls": {"seed": 2**63 - 1, "temperature": 0.7}, "alternatives": 3},
                   outputs=[replace(output, text=None, tokens=[], steps=None) for output in work.outputs])


def test_with_no_retention_content_is_never_written(store: Store, own_workshop: Path) -> None:
    workshop_settings.put(store, "retention_days", 0, "ada")
    made = make_work(prompt="zebra-prompt", error="zebra-error")
    works.record(store, made)
    assert works.work(store, made.id) == without_content(made)
    assert audit.verify(store) == 2
    assert b"zebra" not in b"".join(file.read_bytes() for file in own_workshop.glob("workshop.db*"))


def test_for_ever_forgets_nothing(store: Store) -> None:
    works.record(store, made := make_work(created=datetime(1990, 1, 1, tzinfo=UTC)))
    assert works.forget(store, datetime.now(UTC)) == 0
    assert works.work(store, made.id) == made


def test_content_is_forgotten_after_its_days(store: Store, own_workshop: Path) -> None:
    now = datetime.now(UTC)
    workshop_settings.put(store, "retention_days", 30, "ada")
    old = make_work("bt-old", created=now - timedelta(days=30), prompt="zebra-prompt", error="zebra-error")
    new = make_work("bt-new", created=now - timedelta(days=29, hours=23))
    works.record(store, old)
    works.record(store, new)
    edit = feedback.add(store, Feedback(kind="edit", output="bt-old.0", text="zebra-edit"), "bob")
    thumb = feedback.add(store, Feedback(kind="thumb", output="bt-old.0", value=-1, reasons=["zebra-reason"]), "bob")
    assert works.forget(store, now) == 1
    assert works.work(store, "bt-old") == without_content(old)
    assert works.work(store, "bt-new") == new
    said = {entry["id"]: (entry["text"], entry["reasons"]) for entry in feedback.listed(store)}
    assert said == {edit: ("zebra-edit", []), thumb: (None, ["zebra-reason"])}  # its own thirty days are not over
    assert feedback.pairs(store) == []  # but what it corrects is gone
    assert works.forget(store, now) == 0
    assert works.forget(store, now + timedelta(days=40)) == 1
    said = {entry["id"]: (entry["text"], entry["reasons"]) for entry in feedback.listed(store)}
    assert said == {edit: (None, []), thumb: (None, [])}
    assert [event.detail["works"] for event in audit.events(store, action="forget")] == [1, 1]
    assert audit.verify(store) == 7
    assert b"zebra" not in b"".join(file.read_bytes() for file in own_workshop.glob("workshop.db*"))


def test_many_are_forgotten_in_several_steps(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(works, "_AT_ONCE", 3)
    for number in range(7):
        works.record(store, make_work(f"bt-{number}"))
    workshop_settings.put(store, "retention_days", 0, "ada")
    assert works.forget(store, datetime.now(UTC)) == 7
    assert [output.text for made in works.works(store) for output in made.outputs] == [None] * 14
    assert [event.detail["works"] for event in audit.events(store, action="forget")] == [1, 3, 3]


def test_steps_are_kept_small(store: Store) -> None:
    steps = [{"token": i, "token_text": f"word{i}", "logprob": -i / 7, "probability": 0.5,
              "alternatives": [{"token": j, "text": f"other{j}", "logprob": -j / 3, "probability": 0.1}
                               for j in range(5)]} for i in range(500)]
    made = replace(make_work(outputs=0), outputs=[WorkOutput("bt-one.0", 0, "x", "stop", 0.0, [], steps)])
    works.record(store, made)
    assert works.work(store, "bt-one") == made
    size, = sql(store, "SELECT length(steps) FROM outputs")[0]
    assert size < len(str(steps)) / 5


def test_a_second_opening_sees_everything(open_store: Callable[[], Store]) -> None:
    works.record(open_store(), made := make_work())
    assert works.work(open_store(), made.id) == made
