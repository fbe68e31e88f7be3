"""Pictures through the one commission: previews, files in the store on both databases, looked into and forgotten."""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bottega.codecs.image import ImageCodec, PictureSpec
from bottega.core.bundle import Bundle
from bottega.core.errors import InputError, NotFoundError, RefusedError
from bottega.core.lineage import Lineage
from bottega.core.request import Controls, Request
from bottega.families import picture_family
from bottega.workshop import settings, works
from bottega.workshop.inside import inside
from bottega.workshop.job import Job, Order
from bottega.workshop.lane import Delta
from bottega.workshop.store import Store
from bottega.workshop.works import WorkOutput
from bottega.workshop.workshop import Workshop
from tests.workshop.conftest import make_work


def _model(home: Path) -> None:
    """Save an untrained model of 8x8 pictures; what it draws is noise, but always the same."""
    torch.manual_seed(0)
    codec = ImageCodec.of(PictureSpec(size=8, channels=3)).learn([], ["a red star", "a blue moon"])
    kind = picture_family("diffusion")
    facts = {"channels": 3, "size": (8, 8), "classes": 0, "vocab": codec.vocab, "text_length": codec.text_length}
    model = kind(kind.Config.derive(1, facts, {}))  # type: ignore[attr-defined]
    for part in model.parameters():
        torch.nn.init.normal_(part, std=0.2)

    def write(folder: Path) -> None:
        model.save(folder)
        codec.save(folder)

    meta = {"name": "scribbler", "family": "diffusion", "objective": "pictures", "codec": "image", "controls": {},
            "metrics": {}, "recipe": {}}
    Bundle.create(home / "models" / "scribbler", meta=meta, card="# scribbler\n", write=write,
                  lineage=lambda content: Lineage(kind="model", name="scribbler", step="train", content=content))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("scribbler")
    _model(home)
    return home


def within(home: Path, work: Callable[[Workshop], Awaitable[None]]) -> None:
    async def run() -> None:
        workshop = Workshop.open(home)
        try:
            await asyncio.wait_for(work(workshop), 60)
        finally:
            await workshop.close(grace=5)

    asyncio.run(run())


def draw(prompt: str = "a red star", *, previews: bool = False, model: str | None = None, image: bytes | None = None,
         **controls: object) -> Order:
    wish = Request(prompt=prompt, image=image, controls=Controls.parse(controls))
    return Order(model, wish, "api", medium="image", previews=previews)


async def follow(job: Job) -> list[Delta]:
    return [delta async for delta in job]


def test_what_is_delivered_is_what_is_kept(home: Path) -> None:
    async def work(workshop: Workshop) -> None:
        job = await workshop.commission.open(draw(n=3, seed=9, steps=4, previews=True))
        deltas = await follow(job)
        for number in range(3):
            mine = [delta for delta in deltas if delta.output == number]
            assert [delta.index for delta in mine] == sorted(delta.index for delta in mine)
            assert [delta.finish for delta in mine][-1] == "end"
            media_type, data = works.file(workshop.store, f"{job.id}.{number}")
            assert (media_type, data) == ("image/png", mine[-1].png)
            facts = ImageCodec.facts_of(data)
            assert facts is not None
            assert (facts["prompt"], facts["controls"]["seed"], facts["id"]) == ("a red star", 9, f"{job.id}.{number}")
        found = works.work(workshop.store, job.id)
        assert (found.status, found.new_tokens, found.model) == ("done", 3, "scribbler")
        assert found.lineage["files"][0] == hashlib.sha256(works.file(workshop.store, f"{job.id}.0")[1]).hexdigest()
        assert [output.media_type for output in found.outputs] == ["image/png"] * 3
        quiet = await follow(await workshop.commission.open(draw(n=3, seed=9, steps=4)))
        assert len(quiet) == 3
        assert ImageCodec.pixels_of(quiet[2].png or b"").tobytes() == \
            ImageCodec.pixels_of(works.file(workshop.store, f"{job.id}.2")[1]).tobytes()

    within(home, work)


def test_the_box_opens_to_the_frames_it_grew_through(home: Path) -> None:
    async def work(workshop: Workshop) -> None:
        done = await workshop.commission.make(draw(n=2, steps=5))
        opened = await inside(workshop, done.work.outputs[1].id)
        assert opened.replayed
        assert len(opened.frames) == 5
        assert np.array_equal(ImageCodec.pixels_of(opened.frames[-1]),
                              ImageCodec.pixels_of(works.file(workshop.store, done.work.outputs[1].id)[1]))

    within(home, work)


def test_a_picture_that_is_left_is_recorded_as_cancelled(home: Path) -> None:
    async def work(workshop: Workshop) -> None:
        job = await workshop.commission.open(draw(n=16, steps=500))
        await asyncio.sleep(0.1)
        await job.cancel()
        found = works.work(workshop.store, job.id)
        assert (found.status, found.new_tokens) == ("cancelled", 0)
        with pytest.raises(NotFoundError, match="no file"):
            works.file(workshop.store, found.outputs[0].id)
        assert (await inside(workshop, found.outputs[0].id)).missing

    within(home, work)


def test_a_text_model_is_not_asked_for_pictures_nor_the_other_way(home: Path) -> None:
    async def work(workshop: Workshop) -> None:
        with pytest.raises(InputError, match="makes pictures, not texts"):
            await workshop.commission.open(Order("scribbler", Request(prompt="a red star"), "api"))
        with pytest.raises(NotFoundError, match="no model"):
            await workshop.commission.open(Order(None, Request(prompt="a red star"), "api"))
        assert (await workshop.commission.make(draw())).work.model == "scribbler"

    within(home, work)


def test_the_guard_reads_every_text_of_a_request(home: Path) -> None:
    secret = "AKIA" + "Q7ZJ2M4XK9PLW3TB"
    for fields in ({"prompt": f"a {secret}"}, {"prompt": "", "toward": f"a {secret}", "n": 2},
                   {"prompt": "", "negative_prompt": secret}):
        async def work(workshop: Workshop, fields: dict[str, object] = fields) -> None:
            given = dict(fields)
            texts = {name: given.pop(name) for name in ("prompt", "toward") if name in given}
            order = Order(None, Request(**texts, controls=Controls.parse(given)), "api", medium="image")
            with pytest.raises((RefusedError, InputError)) as caught:
                await workshop.commission.open(order)
            assert secret not in str(caught.value)

        within(home, work)


def test_a_given_picture_is_kept_until_it_is_forgotten(home: Path) -> None:
    out = io.BytesIO()
    Image.new("RGB", (8, 8), (200, 30, 30)).save(out, "PNG")

    async def work(workshop: Workshop) -> None:
        done = await workshop.commission.make(draw("", image=out.getvalue(), strength=0.5))
        id = done.work.outputs[0].id
        assert (await inside(workshop, id)).replayed
        facts = ImageCodec.facts_of(works.file(workshop.store, id)[1])
        assert facts is not None
        assert facts["image"] == hashlib.sha256(out.getvalue()).hexdigest()
        settings.put(workshop.store, "retention_days", 1, actor="ada")
        assert works.forget(workshop.store, datetime.now(UTC) + timedelta(days=2)) >= 1
        with pytest.raises(NotFoundError, match="forgotten"):
            works.file(workshop.store, id)
        assert "image" not in works.work(workshop.store, done.work.id).request

    within(home, work)


def test_files_survive_both_databases(store: Store) -> None:
    data = bytes(range(256)) * 40
    made = make_work(outputs=0)
    made.outputs.append(WorkOutput("bt-one.0", 0, "", "end", 0.0, [], media_type="image/png", file=data))
    works.record(store, made)
    assert works.file(store, "bt-one.0") == ("image/png", data)
    assert works.work(store, "bt-one").outputs[0].media_type == "image/png"


def test_a_text_has_no_file(store: Store) -> None:
    works.record(store, make_work())
    with pytest.raises(NotFoundError, match="it is a text"):
        works.file(store, "bt-one.0")
