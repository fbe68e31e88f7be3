"""The release gate of tables: refused at every way out, overridden by a person for one verdict, taken back, audited."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from bottega.core.bundle import Bundle
from bottega.core.errors import CorruptError, InputError, ReleaseError
from bottega.core.request import Controls, Request
from bottega.evaluation.table_verdict import TableVerdict, last_verdict
from bottega.workshop import audit, release, works
from bottega.workshop.job import Done, Order
from bottega.workshop.store import Store
from bottega.workshop.table_lane import facts_of
from bottega.workshop.workshop import Workshop
from tests.table_models import NAME, keep_bad_verdict, make_table_model

WHY = "stays inside the clinic"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    make_table_model(tmp_path)
    return tmp_path


def make(home: Path, model: str = NAME) -> Done:
    """Make five rows, the way every door does."""
    async def run() -> Done:
        workshop = Workshop.open(home)
        try:
            request = Request(prompt="", controls=Controls(rows=5))
            return await asyncio.wait_for(workshop.commission.make(Order(model, request, "api", "ada", "table")), 60)
        finally:
            await workshop.close(grace=5)

    return asyncio.run(run())


def test_a_verdict_with_reasons_holds_rows_and_files_back_until_a_person_says_why(home: Path) -> None:
    before, digest = make(home), Bundle.open(home / "models" / NAME).digest
    verdict, store = keep_bad_verdict(home), Store.open(home)
    assert any("exact copies" in reason for reason in verdict.reasons)
    assert last_verdict(home, digest) == verdict
    with pytest.raises(ReleaseError, match=r"exact copies[\s\S]*bottega table release small-table"):
        make(home)
    refused = works.works(store, limit=1)[0]
    assert (refused.status, refused.verdicts[0]["check"]) == ("refused", "release")
    output = before.work.outputs[0].id
    with pytest.raises(ReleaseError):
        release.file(store, home, output)  # also what was made before anybody knew
    for reason in ("", "  \n"):
        with pytest.raises(InputError, match="is no reason to release"):
            release.release(store, home, NAME, digest, actor="ada", reason=reason)
    assert release.standing(store, home, digest).refused
    release.release(store, home, NAME, digest, actor="ada", reason=WHY)
    assert release.file(store, home, output)[1]
    event = audit.events(store, action="release")[0]
    assert (event.actor, event.subject, event.detail["reason"]) == ("ada", digest, WHY)
    assert (event.detail["against"], event.detail["verdict"]) == (verdict.reasons, verdict.digest)
    done = make(home)
    facts = facts_of(done.result.outputs[0].steps[0].data)
    assert facts is not None
    assert facts["release"] == done.work.lineage["release"] == {
        "against": verdict.reasons, "audit_event": event.sequence, "audit_hash": event.hash}
    release.withdraw(store, home, NAME, digest, actor="bob")
    with pytest.raises(ReleaseError):
        make(home)
    with pytest.raises(InputError, match="no override holds"):
        release.withdraw(store, home, NAME, digest, actor="bob")
    assert audit.events(store, action="withdraw")[0].detail["event"] == event.sequence
    assert audit.verify(store) > 0
    store.close()


def test_an_override_holds_for_one_verdict_on_one_model(home: Path) -> None:
    make_table_model(home, "other-table")
    first, second = (Bundle.open(home / "models" / name).digest for name in (NAME, "other-table"))
    keep_bad_verdict(home)
    keep_bad_verdict(home, "other-table")
    store = Store.open(home)
    release.release(store, home, NAME, first, actor="ada", reason=WHY)
    assert not release.standing(store, home, first).refused
    assert release.standing(store, home, second).refused
    keep_bad_verdict(home, seed=0)  # the same rows judged again are the same verdict
    assert not release.standing(store, home, first).refused
    keep_bad_verdict(home, seed=1)
    assert release.standing(store, home, first).refused
    store.close()


def test_a_copied_folder_is_under_the_same_verdict_and_a_good_one_frees(home: Path) -> None:
    verdict = keep_bad_verdict(home)
    shutil.copytree(home / "models" / NAME, home / "models" / "copy")
    with pytest.raises(ReleaseError):
        make(home, "copy")
    verdict.model_copy(update={"reasons": []}).keep(home)
    assert make(home, "copy").work.status == "done"
    store = Store.open(home)
    with pytest.raises(InputError, match="nothing speaks against"):
        release.release(store, home, NAME, verdict.model_digest, actor="ada", reason=WHY)
    store.close()


def test_rows_of_a_model_that_was_never_judged_say_so(home: Path) -> None:
    async def notes() -> list[str]:
        workshop = Workshop.open(home)
        try:
            job = await workshop.commission.open(Order(NAME, Request(prompt=""), "api", medium="table"))
            return [note async for delta in job for note in delta.notes]
        finally:
            await workshop.close(grace=5)

    assert any("nobody has judged" in note for note in asyncio.run(notes()))
    digest, store = Bundle.open(home / "models" / NAME).digest, Store.open(home)
    with pytest.raises(InputError, match="never judged"):
        release.release(store, home, NAME, digest, actor="ada", reason=WHY)
    store.close()


def test_a_verdict_that_cannot_be_read_releases_nothing(home: Path) -> None:
    digest = Bundle.open(home / "models" / NAME).digest
    verdict = keep_bad_verdict(home)
    path = home / "verdicts" / f"{digest}.json"
    for text in ("{", "{}", TableVerdict.model_copy(verdict, update={"model_digest": "0" * 64}).model_dump_json()):
        path.write_text(text)
        with pytest.raises(CorruptError, match="bottega evaluate"):
            make(home)
