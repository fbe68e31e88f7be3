"""Pictures over HTTP, asked for with OpenAI's own client: drawn, edited, varied, streamed, linked, refused."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import re
import socket
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from PIL import Image

from bottega.codecs.image import ImageCodec
from bottega.core.request import Controls
from bottega.core.request import Request as Wish
from bottega.generation.easel import Easel
from bottega.generation.native_pictures import NativePictures
from bottega.generation.pictures import Pixels, open_pictures
from bottega.server import image_links
from bottega.server.app import create_app
from bottega.server.image_stream import preview_steps
from bottega.workshop import settings, works
from bottega.workshop.store import Store
from bottega.workshop.workshop import Workshop
from tests.server.conftest import Serve
from tests.server.running import Running, bottega, wait_for
from tests.workshops import SmallWorkshop

PROMPT = "a red circle"
LONG = {"steps": 1000, "seed": 1}  # takes seconds, unless someone ends it


@pytest.fixture(autouse=True)
def _variations_still_exist() -> Iterator[None]:
    with warnings.catch_warnings():  # the client says that OpenAI closed its own route
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        yield


@pytest.fixture(scope="module")
def side(server: Running, small_workshop: SmallWorkshop) -> int:
    return ImageCodec.load(server.home / "models" / small_workshop.pictures).width


def draw(client: openai.OpenAI, prompt: str = PROMPT, n: int = 1, **options: Any) -> Any:
    return client.images.generate(prompt=prompt, n=n, extra_body={"seed": 7, **options})


def pixels(answer: Any, number: int = 0) -> Pixels:
    return ImageCodec.pixels_of(base64.b64decode(answer.data[number].b64_json))


def png(colour: tuple[int, ...], side: int, hole: tuple[int, int, int, int] | None = None) -> bytes:
    """A plain picture with a transparent rectangle."""
    picture = Image.new("RGBA", (side, side), colour)
    if hole:
        picture.paste((*colour[:3], 0), hole)
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def refused(call: Callable[[], Any], status: int = 400) -> dict[str, Any]:
    with pytest.raises(openai.APIStatusError) as caught:
        call()
    assert caught.value.status_code == status, caught.value.message
    assert isinstance(caught.value.body, dict)
    assert set(caught.value.body) == {"message", "type", "param", "code"}
    return caught.value.body


def test_a_picture_depends_on_the_seed_and_its_number_alone(client: openai.OpenAI, server: Running, side: int,
                                                            small_workshop: SmallWorkshop) -> None:
    one, three = draw(client), draw(client, n=3)
    assert np.array_equal(pixels(one), pixels(three))
    assert not np.array_equal(pixels(three), pixels(three, 1))
    assert (three.size, three.output_format, three.background) == (f"{side}x{side}", "png", "opaque")
    assert pixels(one).shape == (3, side, side)
    assert (three.usage.input_tokens, three.usage.output_tokens, three.usage.total_tokens) == (0, 3, 3)
    assert three.bottega["seed"] == 7
    assert abs(three.created - time.time()) < 60
    facts = ImageCodec.facts_of(base64.b64decode(three.data[2].b64_json))
    assert facts is not None
    assert (facts["id"], facts["prompt"]) == (three.bottega["outputs"][2], PROMPT)
    assert facts["model"] == {"name": small_workshop.pictures, "digest": three.bottega["model_digest"]}
    with server.store() as store:
        work = works.work(store, three.bottega["outputs"][0].rpartition(".")[0])
    assert (work.door, work.status, len(work.outputs)) == ("api", "done", 3)


def test_controls_beyond_openai_reach_the_model(client: openai.OpenAI, server: Running) -> None:
    plain = pixels(draw(client))
    for other in ({"seed": 8}, {"steps": 2}, {"guidance_scale": 4.0}, {"sampler": "heun"},
                  {"negative_prompt": "a blue square"}):
        assert not np.array_equal(plain, pixels(draw(client, **other))), other
    walk = draw(client, n=3, toward="a blue square", bottega={"door": "studio"})
    assert np.array_equal(plain, pixels(walk))
    with server.store() as store:
        work = works.work(store, walk.bottega["outputs"][0].rpartition(".")[0])
    assert (work.door, work.request["toward"]) == ("studio", "a blue square")


def test_each_model_by_its_name_and_the_newest_without(client: openai.OpenAI, small_workshop: SmallWorkshop) -> None:
    digit = client.images.generate(model=small_workshop.digits, prompt="3", size="8x8",
                                   extra_body={"temperature": 0.5})
    assert pixels(digit).shape == (1, 8, 8)
    digests = {model.id: model.digest for model in client.models.list()}  # type: ignore[attr-defined]
    assert digit.bottega["model_digest"] == digests[small_workshop.digits]  # type: ignore[attr-defined]
    assert draw(client).bottega["model_digest"] == digests[small_workshop.pictures]
    kinds = {model.id: model.medium for model in client.models.list()}  # type: ignore[attr-defined]
    assert kinds[small_workshop.pictures] == "image"
    assert kinds[small_workshop.lm] == "text"


def test_an_edit_keeps_what_the_mask_keeps(client: openai.OpenAI, side: int) -> None:
    rng = np.random.default_rng(3)
    given = ImageCodec.png(rng.integers(0, 256, (3, side, side), dtype=np.uint8))
    mask = png((0, 0, 0, 255), side, (0, 0, side // 2, side))
    made: Any = client.images.edit(image=("given.png", given), mask=("mask.png", mask), prompt=PROMPT, n=2, size="auto",
                                   extra_body={"seed": 5, "steps": 4, "bottega": {"door": "studio"}})
    before = ImageCodec.pixels_of(given)
    for number in range(2):
        after = pixels(made, number)
        assert np.array_equal(after[:, :, side // 2:], before[:, :, side // 2:])
        assert not np.array_equal(after[:, :, :side // 2], before[:, :, :side // 2])
    assert made.bottega["seed"] == 5
    own = client.images.edit(image=png((90, 120, 30, 255), side, (0, 0, side, side // 2)), prompt=PROMPT)
    assert (pixels(own)[:, side // 2:] == np.array([90, 120, 30]).reshape(3, 1, 1)).all()  # its own holes are the mask
    assert not (pixels(own)[:, :side // 2] == np.array([90, 120, 30]).reshape(3, 1, 1)).all()


def test_image_to_image_and_variations(client: openai.OpenAI, small_workshop: SmallWorkshop) -> None:
    given = ("given.png", base64.b64decode(draw(client).data[0].b64_json))
    before = ImageCodec.pixels_of(given[1])
    kept: Any = client.images.edit(image=[given], prompt="a blue square", extra_body={"strength": 0})
    assert np.array_equal(pixels(kept), before)
    varied: Any = client.images.create_variation(image=given, n=2, response_format="b64_json")
    assert len(varied.data) == 2
    near = [np.abs(pixels(varied, number).astype(int) - before).mean() for number in range(2)]
    slightly: Any = client.images.create_variation(image=given, extra_body={"strength": 0.2, "seed": 1})
    assert np.abs(pixels(slightly).astype(int) - before).mean() < min(near)
    digit: Any = client.images.create_variation(model=small_workshop.digits, image=given, n=2)
    assert pixels(digit).shape == (1, 8, 8)


def test_a_link_is_good_for_whoever_has_it(client: openai.OpenAI, server: Running) -> None:
    made = client.images.generate(prompt=PROMPT, n=2, response_format="url", extra_body={"seed": 7})
    assert [each.b64_json for each in made.data or []] == [None, None]
    url = (made.data or [])[1].url or ""
    assert url.startswith(f"{server.url}/v1/images/files/{made.bottega['outputs'][1]}.png?")  # type: ignore[attr-defined]
    answer = httpx.get(url)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"].startswith("private, max-age=3")
    assert np.array_equal(ImageCodec.pixels_of(answer.content), pixels(draw(client, n=2), 1))


def test_forged_and_expired_links_are_refused(client: openai.OpenAI, server: Running) -> None:
    made = client.images.generate(prompt=PROMPT, n=2, response_format="url")
    first, second = ((each.url or "").removeprefix(server.url) for each in made.data or [])
    path, _, query = first.partition("?")
    stretched = query.replace("expires=", "expires=9")
    for forged in (path, f"{path}?{stretched}", f"{path}?{query[:-1]}", f"{path}?expires=x&signature=%C3%A9",
                   f"{second.partition('?')[0]}?{query}", first.replace("bt-", "bt-a")):
        answer = server.get(forged)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "invalid_signature"), forged
    with server.store() as store:
        key = settings.secret(store)
    output = path.rpartition("/")[2].removesuffix(".png")
    for age, status, code in ((3601, 403, "expired"), (3500, 200, None)):
        answer = httpx.get(image_links.link(server.url, key, output, time.time() - age))
        assert answer.status_code == status
        assert code is None or answer.json()["error"]["code"] == code
    answer = httpx.get(image_links.link(server.url, key, "bt-nothing.0", time.time()))
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    text = server.post("/v1/completions", {"prompt": "The", "max_tokens": 2}).json()["bottega"]["outputs"][0]
    assert httpx.get(image_links.link(server.url, key, text, time.time())).status_code == 404


def test_keys_are_needed_for_all_but_links(serve: Serve, fresh_home: Path) -> None:
    made = json.loads(bottega("keys", "create", "team", "--json", home=fresh_home).stdout)
    with serve("--host", "0.0.0.0") as server:
        url = server.url.replace("0.0.0.0", "127.0.0.1")
        client = openai.OpenAI(base_url=f"{url}/v1", api_key=made["key"], max_retries=0)
        link = (client.images.generate(prompt=PROMPT, response_format="url").data or [])[0].url or ""
        assert httpx.get(link).status_code == 200
        assert httpx.get(link[:-1]).status_code == 403
        stranger = client.with_options(api_key="btg-wrong")
        for call in (lambda: stranger.images.generate(prompt=PROMPT),
                     lambda: stranger.images.edit(image=b"", prompt=PROMPT),
                     lambda: stranger.images.create_variation(image=b"")):
            assert refused(call, 401)["code"] == "invalid_api_key"


def test_pictures_grow_in_a_stream(client: openai.OpenAI, side: int) -> None:
    events: list[Any] = list(client.images.generate(prompt=PROMPT, n=2, stream=True, partial_images=3,
                                                    extra_body={"seed": 7, "steps": 8}))
    for number in range(2):
        mine = [event for event in events if event.bottega["output"] == number]
        assert [event.type for event in mine] == ["image_generation.partial_image"] * 3 + ["image_generation.completed"]
        assert [event.partial_image_index for event in mine[:3]] == [0, 1, 2]
        assert {event.size for event in mine} == {f"{side}x{side}"}
        assert mine[3].usage.total_tokens == 1
        grown = [ImageCodec.pixels_of(base64.b64decode(event.b64_json)).astype(int) for event in mine]
        assert np.array_equal(grown[3], pixels(draw(client, n=2, steps=8), number))
        distances = [np.abs(each - grown[3]).mean() for each in grown]
        assert distances[0] > distances[2] > distances[3] == 0
    assert len(events[-1].bottega["outputs"]) == 2
    whole: list[Any] = list(client.images.generate(prompt=PROMPT, stream=True, extra_body={"seed": 7}))
    assert [event.type for event in whole] == ["image_generation.completed"]


def test_an_edit_grows_in_a_stream_of_the_async_client(server: Running, side: int) -> None:
    async def follow() -> list[Any]:
        async with server.async_client() as client:
            stream = await client.images.edit(image=png((200, 30, 30, 255), side), prompt=PROMPT, stream=True,
                                              partial_images=2, extra_body={"strength": 0.5, "steps": 12})
            return [event async for event in stream]

    events = asyncio.run(follow())
    assert [event.type for event in events] == ["image_edit.partial_image"] * 2 + ["image_edit.completed"]
    assert events[-1].bottega["verdicts"] == []


@pytest.mark.parametrize(("steps", "strength", "partial", "places"), [
    (8, None, 3, [1, 3, 5]), (8, None, 1, [3]), (8, None, 0, []), (4, None, 3, [0, 1, 2]), (2, None, 3, [0]),
    (1, None, 3, []), (None, None, 2, [0, 1]), (30, 0.5, 2, [4, 9]), (30, 0.0, 2, [])])
def test_previews_are_spread_over_the_steps(steps: int | None, strength: float | None, partial: int,
                                            places: list[int]) -> None:
    assert preview_steps(Controls(steps=steps, strength=strength), partial) == places


def test_a_client_that_leaves_frees_the_place(client: openai.OpenAI, server: Running) -> None:
    left = server.figure("bottega_requests_cancelled_total")
    stream: Any = client.images.generate(prompt=PROMPT, n=4, stream=True, partial_images=3, extra_body=LONG)
    assert server.figure("bottega_outputs_running") == 4
    stream.close()
    wait_for(lambda: server.figure("bottega_outputs_running") == 0, 5)
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.5).images.generate(prompt=PROMPT, n=4, extra_body=LONG)
    wait_for(lambda: server.figure("bottega_outputs_running") == 0, 5)
    wait_for(lambda: server.figure("bottega_requests_cancelled_total") == left + 2)
    assert len(draw(client).data) == 1


def test_a_full_queue_says_when_to_come_back(serve: Serve) -> None:
    with serve("--slots", "1", "--queue", "1") as server, ThreadPoolExecutor(2) as pool:
        client = server.client()
        draw(client)  # the model is loaded
        long: Any = client.images.generate(prompt=PROMPT, stream=True, extra_body=LONG)
        wait_for(lambda: server.figure("bottega_outputs_running") == 1)
        waits = pool.submit(draw, client)
        wait_for(lambda: server.figure("bottega_queue_length") == 1)
        with pytest.raises(openai.RateLimitError) as caught:
            draw(client)
        assert caught.value.code == "queue_full"
        assert int(caught.value.response.headers["retry-after"]) >= 1
        assert "more than are made at a time (1)" in refused(lambda: draw(client, n=2))["message"]
        long.close()
        assert len(waits.result(30).data) == 1


@pytest.mark.parametrize(("field", "value"), [
    ("n", 0), ("n", 1000), ("n", "2"), ("size", "big"), ("size", "3x3"), ("response_format", "text"), ("steps", 0),
    ("guidance_scale", -1), ("seed", -1), ("sampler", "magic"), ("temperature", 1.0), ("strength", 0.5),
    ("output_format", "webp"), ("output_compression", 50), ("quality", "hd"), ("style", "vivid"), ("moderation", "low"),
    ("background", "transparent"), ("partial_images", 4), ("partial_images", 1), ("toward", "a blue square"),
    ("frame_count", 3), ("svg", {"model": "x"}), ("stepz", 3), ("stream", "yes"), ("model", 3), ("prompt", None),
    ("negative_prompt", 3), ("bottega", {"alternatives": 3}), ("image", "AAAA")])
def test_what_cannot_be_obeyed_is_refused_by_name(server: Running, field: str, value: Any) -> None:
    answer = server.post("/v1/images/generations", {"prompt": PROMPT, field: value})
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert error["param"].startswith(field)


def test_values_that_change_nothing_are_taken(client: openai.OpenAI, side: int) -> None:
    made = client.images.generate(prompt=PROMPT, size=f"{side}x{side}", quality="auto", background="opaque", user="ada",
                                  moderation="auto", output_format="png", output_compression=100,
                                  safety_identifier="ada", partial_images=0, extra_body={"seed": 7})
    assert np.array_equal(pixels(made), pixels(draw(client)))
    plain = client.images.edit(image=png((9, 9, 9, 255), side), prompt=PROMPT, quality="auto", user="ada", size="auto",
                               output_compression=100, input_fidelity="low", stream=False)
    assert len(plain.data or []) == 1


def test_words_and_models_that_do_not_fit(client: openai.OpenAI, small_workshop: SmallWorkshop) -> None:
    assert "never read the word 'zebra'" in refused(lambda: draw(client, "a zebra"))["message"]
    assert "words" in refused(lambda: draw(client, "a red circle " * 40))["message"]
    error = refused(lambda: client.images.generate(model="small-pictur", prompt=PROMPT), 404)
    assert (error["code"], error["param"]) == ("model_not_found", "model")
    error = refused(lambda: client.images.generate(model=small_workshop.lm, prompt=PROMPT))
    assert "/v1/chat/completions" in error["message"]
    assert error["param"] == "model"
    for call in (lambda: client.chat.completions.create(model=small_workshop.pictures,
                                                        messages=[{"role": "user", "content": "Hi"}]),
                 lambda: client.completions.create(model=small_workshop.pictures, prompt="Hi"),
                 lambda: client.embeddings.create(model=small_workshop.pictures, input="Hi")):
        error = refused(call)
        assert "/v1/images/generations" in error["message"]
        assert error["param"] == "model"


def test_files_that_do_not_fit(client: openai.OpenAI, server: Running, side: int,
                               small_workshop: SmallWorkshop) -> None:
    whole, mask = png((9, 9, 9, 255), side), png((0, 0, 0, 255), side, (0, 0, 4, 4))
    huge = io.BytesIO()
    Image.new("L", (9000, 9000)).save(huge, "PNG")

    def edit(image: Any, **options: Any) -> dict[str, Any]:
        return refused(lambda: client.images.edit(image=image, prompt=PROMPT, **options))

    for image, words in ((b"", "the file is empty"), (b"no picture", "not a picture"), (whole[:50], "damaged"),
                         (huge.getvalue(), "9000 x 9000 pixels, over")):
        error = edit(image)
        assert words in error["message"]
        assert error["param"] == "image"
        assert refused(lambda image=image: client.images.create_variation(image=image))["param"] == "image"
        assert edit(whole, mask=image)["param"] == "mask"
    error = edit(whole, mask=png((0, 0, 0, 255), side + 1, (0, 0, 4, 4)))
    assert (error["param"], str(side + 1) in error["message"]) == ("mask", True)
    assert edit(whole, mask=png((0, 0, 0, 255), side))["param"] == "mask"  # keeps everything
    error = edit([("a.png", whole), ("b.png", whole)])
    assert (error["param"], "2 were given" in error["message"]) == ("image", True)
    error = refused(lambda: client.images.edit(image=whole, mask=mask, prompt="3", model=small_workshop.digits))
    assert error["param"] in ("image", "mask")  # a vae knows no holes
    assert edit(whole, extra_body={"strength": 2})["param"] == "strength"
    assert edit(whole, extra_body={"stepz": 2})["param"] == "stepz"
    assert edit(whole, n="x")["param"] == "n"


def test_bodies_that_are_no_form(server: Running, side: int) -> None:
    file = {"image": ("a.png", png((9, 9, 9, 255), side))}

    def post(path: str = "edits", status: int = 400, **options: Any) -> dict[str, Any]:
        answer = httpx.post(f"{server.url}/v1/images/{path}", timeout=30, **options)
        assert answer.status_code == status, answer.text
        return dict(answer.json()["error"])

    assert "multipart/form-data" in post(json={"prompt": PROMPT})["message"]
    assert "multipart/form-data" in post("variations", content=b"")["message"]
    assert post(data={"prompt": PROMPT}, files={"other": file["image"]})["param"] == "other"
    assert post(files={"mask": file["image"]}, data={"prompt": PROMPT})["message"] == "'image' is missing"
    assert post(files=file)["message"] == "'prompt' is missing"
    assert "a part of the form" in post(data={"prompt": PROMPT, "image": "x"}, files={"mask": file["image"]})["message"]
    assert post(files=file, data={"prompt": PROMPT, "n": ["1", "2"]})["param"] == "n"
    assert post(files=file, data={"prompt": PROMPT, "bottega[door]": "back"})["param"] == "bottega.door"
    assert "Too many files" in post(files=[("image", file["image"])] * 21)["message"]
    assert "Too many fields" in post(files=file, data={f"f{number}": "x" for number in range(61)})["message"]
    assert "cannot be read" in post(content=b"nonsense", headers={"content-type": "multipart/form-data"})["message"]
    cut = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\nabc'
    assert post(content=cut, headers={"content-type": "multipart/form-data; boundary=x"})["message"]
    large = {"image": ("a.png", b"x" * (11 << 20))}
    assert post(status=413, files=large, data={"prompt": PROMPT})["type"] == "invalid_request_error"


def test_uploads_leave_nothing_behind(client: openai.OpenAI, server: Running) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (3, 900, 900), dtype=np.uint8)
    large = ImageCodec.png(noise)
    assert len(large) > 2 << 20  # goes through a file while it is read
    made: Any = client.images.edit(image=large, prompt=PROMPT)
    assert len(made.data) == 1
    host, _, port = server.url.removeprefix("http://").partition(":")
    for _ in range(3):
        with socket.create_connection((host, int(port))) as visitor:
            visitor.sendall(
                b"POST /v1/images/edits HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3000000\r\n"
                b"Content-Type: multipart/form-data; boundary=x\r\n\r\n"
                b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n' + bytes(1_500_000))
    wait_for(lambda: server.figure("bottega_requests_active") == 1)  # the one that asks
    kept = [link.name for link in Path(f"/proc/{server.process.pid}/fd").iterdir() if "/tmp/" in os.readlink(link)
            and "deleted" in os.readlink(link)]
    assert kept == []


def test_the_guard_reads_every_text(serve: Serve, fresh_home: Path, side: int) -> None:
    store = Store.open(fresh_home)
    settings.put(store, "guard", {"actions": {"card": "block"}}, "ada")
    store.close()
    card = "4111 1111 1111 1111"
    with serve() as server:
        client = server.client()
        for call in (lambda: draw(client, f"a {card}"), lambda: draw(client, negative_prompt=card),
                     lambda: draw(client, n=2, toward=card),
                     lambda: client.images.edit(image=png((9, 9, 9, 255), side), prompt=card)):
            error = refused(call)
            assert error["code"] == "content_filter"
            assert "4111" not in str(error)
        assert server.figure("bottega_guard_verdicts_total", action="block") == 4
        answer = server.post("/v1/images/generations", {"prompt": card}).json()
        assert answer["bottega"]["verdicts"][0]["category"] == "card"


def test_feedback_and_figures(client: openai.OpenAI, server: Running, small_workshop: SmallWorkshop) -> None:
    drawn = server.figure("bottega_pictures_total", model=small_workshop.pictures)
    outputs = draw(client, n=3).bottega["outputs"]
    assert server.figure("bottega_pictures_total", model=small_workshop.pictures) == drawn + 3
    assert server.figure("bottega_first_token_seconds_count", model=small_workshop.pictures) == 0
    assert server.figure("bottega_tokens_total", model=small_workshop.pictures) == 0
    said = [{"kind": "thumb", "output": outputs[0], "value": 1},
            {"kind": "choice", "output": outputs[0], "rejected": outputs[1]},
            {"kind": "comment", "output": outputs[2], "text": "too dark"}]
    assert len(server.post("/v1/feedback", said).json()["ids"]) == 3
    edit = server.post("/v1/feedback", {"kind": "edit", "output": outputs[0], "text": "a red circle"})
    assert edit.status_code == 400
    assert "no text" in edit.json()["error"]["message"]


class Picky(NativePictures):
    """A model with a check of its own: it holds back the pictures of these numbers."""

    held: frozenset[int] = frozenset()

    def frames(self, request: Wish, controls: Controls, numbers: range) -> Iterator[list[Pixels | None]]:
        *previews, last = super().frames(request, controls, numbers)
        yield from previews
        yield [None if number in self.held else picture for number, picture in zip(numbers, last, strict=True)]


def test_what_the_model_holds_back_is_told(fresh_home: Path, small_workshop: SmallWorkshop) -> None:
    async def ask(held: frozenset[int], **body: Any) -> httpx.Response:
        workshop = Workshop.open(fresh_home)
        try:
            served = workshop.models.resolve(small_workshop.pictures, "image")
            engine = open_pictures(served.path)
            engine.__class__, engine.held = Picky, held  # type: ignore[assignment, attr-defined]
            workshop.models._loaded[served.digest] = Easel(engine)
            app = create_app(workshop, keys_required=False, allowed_hosts=["*"])
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://local") as client:
                return await client.post("/v1/images/generations", timeout=30, json={
                    "model": small_workshop.pictures, "prompt": PROMPT, "n": 3, "seed": 7, **body})
        finally:
            await workshop.close(grace=5)

    some = asyncio.run(ask(frozenset({1}))).json()
    assert len(some["data"]) == 2
    assert [id.rpartition(".")[2] for id in some["bottega"]["outputs"]] == ["0", "2"]
    verdict, = some["bottega"]["verdicts"]
    assert (verdict["stage"], verdict["action"], verdict["where"]) == ("output", "block", "output 1")
    assert some["usage"]["output_tokens"] == 2
    linked = asyncio.run(ask(frozenset({0}), response_format="url")).json()
    assert [re.search(r"\.(\d)\.png", each["url"])[1] for each in linked["data"]] == ["1", "2"]  # type: ignore[index]
    none = asyncio.run(ask(frozenset(range(3))))
    assert (none.status_code, none.json()["error"]["code"]) == (400, "content_policy_violation")
    assert len(none.json()["bottega"]["verdicts"]) == 3
    streamed = asyncio.run(ask(frozenset({2}), stream=True)).text
    assert streamed.count("event: image_generation.completed") == 2
    assert '"where":"output 2"' in streamed
    assert '"code": "content_policy_violation"' in asyncio.run(ask(frozenset(range(3)), stream=True)).text


def test_a_workshop_that_keeps_no_content_has_no_links(serve: Serve, fresh_home: Path) -> None:
    assert bottega("settings", "retention_days=0", home=fresh_home).returncode == 0
    with serve() as server:
        client = server.client()
        error = refused(lambda: client.images.generate(prompt=PROMPT, response_format="url"))
        assert error["param"] == "response_format"
        assert pixels(draw(client)).any()
