"""Pictures in Create by a real browser: drawn, stopped, varied, painted on, judged; looked into; kept by the store."""

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, Route, expect

from bottega.codecs.image import ImageCodec
from bottega.codecs.pixels import redrawn
from bottega.workshop import feedback, settings, works
from tests.browser.conftest import Served, Watch
from tests.browser.studio import draw, drawing, ids, open_pictures, set_control
from tests.workshops import SmallWorkshop

COUNT_BITMAPS = """const made = window.createImageBitmap;
window.bitmaps = 0;
window.createImageBitmap = (...given) => { window.bitmaps += 1; return made(...given); };"""


@pytest.fixture
def easel(page: Page, served: Served) -> Page:
    """The tab of pictures with the diffusion model chosen."""
    page.add_init_script(COUNT_BITMAPS)
    open_pictures(page, served.pictures)
    return page


def paint_stroke(page: Page) -> None:
    """Paint a stroke through the upper half with the mouse."""
    expect(page.get_by_test_id("paint")).to_be_visible()
    box = page.get_by_test_id("paint").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.3 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.7 * box["width"], box["y"] + 0.4 * box["height"], steps=4)
    page.mouse.up()


def test_four_variants_grow_in_place_and_stay_after_a_reload(easel: Page, served: Served) -> None:
    pictures = draw(easel)
    made = ids(pictures)
    assert len(set(made)) == 4
    assert easel.evaluate("window.bitmaps") == 4 * (3 + 1)  # three previews and the picture
    work, _ = works.output(served.store, made[0])
    assert (work.door, work.model, work.request["prompt"]) == ("studio", served.pictures, "a red circle")
    assert [output.id for output in work.outputs] == made
    shown = pictures.locator("canvas").first.evaluate("canvas => canvas.toDataURL().split(',')[1]")
    _, file = works.file(served.store, made[0])
    assert np.array_equal(ImageCodec.pixels_of(base64.b64decode(shown)), ImageCodec.pixels_of(file))
    easel.reload()
    kept = easel.get_by_test_id("set").last
    expect(kept.get_by_test_id("title")).to_have_text("a red circle")
    assert ids(kept) == made
    expect(easel).to_have_url(f"{served.url}/pictures")
    easel.wait_for_function("[...document.querySelectorAll('.tile img')].every(image => image.naturalWidth === 16)")
    with easel.expect_download() as download:
        kept.get_by_test_id("save").first.click()
    assert Path(download.value.path()).read_bytes() == file


def test_stop_frees_the_model(easel: Page, served: Served) -> None:
    def slower(route: Route) -> None:  # more steps than the panel's slider has, or a fast machine is done before Escape
        route.continue_(post_data=json.dumps({**(route.request.post_data_json or {}), "steps": 1000}))

    easel.route("**/v1/images/generations", slower, times=1)
    set_control(easel, "n", "16")
    easel.get_by_test_id("prompt").fill("a blue square")
    easel.keyboard.press("Enter")
    expect(easel.get_by_test_id("stop")).to_be_visible()
    easel.wait_for_timeout(300)
    easel.keyboard.press("Escape")
    expect(easel.get_by_test_id("finish")).to_have_text("stopped")
    set_control(easel, "steps", "2")
    set_control(easel, "n", "1")
    assert len(ids(draw(easel))) == 1
    assert any(work.status == "cancelled" and work.request["prompt"] == "a blue square"
               for work in works.works(served.store))


def test_vary_starts_from_the_very_file(easel: Page, served: Served) -> None:
    set_control(easel, "strength", "0.4")
    source = draw(easel).get_by_test_id("tile").nth(1)
    with drawing(easel) as made:
        source.get_by_test_id("vary").click()
    expect(made[0].get_by_test_id("title")).to_have_text("Variations")
    varied = ids(made[0])
    work, _ = works.output(served.store, varied[0])
    _, file = works.file(served.store, source.get_attribute("data-id") or "")
    assert base64.b64decode(work.request["image"]) == file
    assert (work.request["prompt"], work.request["controls"]["strength"], len(varied)) == ("", 0.4, 4)


def test_only_what_was_painted_is_redrawn(easel: Page, served: Served) -> None:
    source = draw(easel).get_by_test_id("tile").first
    source.get_by_test_id("edit").click()
    paint_stroke(easel)
    expect(easel.get_by_test_id("paint-status")).to_contain_text("% will be redrawn")
    easel.get_by_test_id("start-prompt").fill("a blue square")
    with drawing(easel) as made:
        easel.get_by_test_id("start-draw").click()
    expect(made[0].get_by_test_id("title")).to_have_text("Edited: a blue square")
    edited = ids(made[0])
    work, _ = works.output(served.store, edited[0])
    mask = base64.b64decode(work.request["mask"])
    _, before = works.file(served.store, source.get_attribute("data-id") or "")
    hole = redrawn(mask, before, 16, 16, "crop")
    assert 0.02 < hole.mean() < 0.5
    old = ImageCodec.pixels_of(before)
    new = [ImageCodec.pixels_of(works.file(served.store, output)[1]) for output in edited]
    for pixels in new:
        assert np.array_equal(pixels[:, ~hole], old[:, ~hole])
        assert not np.array_equal(pixels[:, hole], old[:, hole])


def test_painting_by_keyboard_erasing_clearing_inverting(easel: Page) -> None:
    draw(easel).get_by_test_id("edit").first.click()
    status = easel.get_by_test_id("paint-status")
    expect(easel.get_by_test_id("paint")).to_be_focused()
    easel.get_by_test_id("brush").press("Home")  # the thinnest
    easel.get_by_test_id("paint").focus()
    easel.keyboard.press("Space")
    expect(status).to_have_text("Column 9, row 9. 0 % will be redrawn.")
    easel.keyboard.press("Shift+ArrowRight")
    easel.keyboard.press("Shift+ArrowRight")
    expect(status).to_have_text("Column 11, row 9. 1 % will be redrawn.")  # 3 of 256
    easel.get_by_test_id("invert").click()
    expect(status).to_contain_text("99 % will be redrawn.")
    easel.get_by_test_id("erase").click()
    paint_stroke(easel)
    expect(status).not_to_contain_text("99 %")
    easel.get_by_test_id("clear").click()
    expect(status).to_contain_text(" 0 % will be redrawn.")
    easel.keyboard.press("Escape")
    expect(easel.get_by_test_id("start")).to_be_hidden()
    expect(easel.get_by_test_id("set").last.get_by_test_id("tile")).to_have_count(4)


def test_an_own_picture_is_taken_by_choice_and_by_drop(easel: Page, served: Served) -> None:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((60, 40)).save(buffer, "JPEG")
    own = {"name": "own.jpg", "mimeType": "image/jpeg", "buffer": buffer.getvalue()}
    easel.get_by_test_id("file").set_input_files(own)
    easel.get_by_test_id("start-prompt").fill("a green circle")
    with drawing(easel) as made:
        easel.get_by_test_id("start-draw").click()
    work, _ = works.output(served.store, ids(made[0])[0])
    assert base64.b64decode(work.request["image"]) == buffer.getvalue()
    assert work.request["prompt"] == "a green circle"
    dropped = easel.evaluate_handle(
        """text => { const data = new DataTransfer();
        data.items.add(new File([Uint8Array.from(atob(text), c => c.charCodeAt(0))], "a.jpg", {type: "image/jpeg"}));
        return data; }""", base64.b64encode(buffer.getvalue()).decode())
    easel.dispatch_event("#pictures", "dragover", {"dataTransfer": dropped})
    expect(easel.get_by_text("Drop a picture to start from it", exact=True)).to_be_visible()
    easel.dispatch_event("#pictures", "drop", {"dataTransfer": dropped})
    paint_stroke(easel)
    with drawing(easel) as made:
        easel.get_by_test_id("start-draw").click()
    expect(made[0].get_by_test_id("title")).to_have_text("Edited")
    work, _ = works.output(served.store, ids(made[0])[0])
    assert Image.open(io.BytesIO(base64.b64decode(work.request["mask"]))).size == (60, 40)
    easel.get_by_test_id("file").set_input_files({"name": "a.png", "mimeType": "image/png", "buffer": b"no picture"})
    expect(easel.get_by_text("This file is not a picture")).to_be_visible()


def test_thumbs_and_the_best_are_kept(easel: Page, served: Served) -> None:
    pictures = draw(easel)
    made = ids(pictures)
    pictures.get_by_test_id("thumb-down").first.click()
    pictures.get_by_test_id("reason").first.click()
    pictures.get_by_test_id("comment").fill("No circle.")
    pictures.get_by_test_id("why-send").click()
    expect(pictures.get_by_test_id("why")).to_be_hidden()
    for place in (1, 2):
        pictures.get_by_test_id("best").nth(place).click()
        expect(pictures.get_by_test_id("best").nth(place)).to_have_attribute("aria-pressed", "true")
    stands = [entry for entry in feedback.listed(served.store) if entry["replaced_by"] is None]
    said = [(entry["kind"], entry["value"], entry["text"], entry["reasons"]) for entry in stands
            if entry["output"] == made[0]]
    assert sorted(said) == [("comment", None, "No circle.", []), ("thumb", -1, None, ["not what was asked"])]
    assert {entry["rejected"] for entry in stands if entry["output"] == made[2]} == {made[0], made[1], made[3]}
    easel.reload()
    pictures = easel.get_by_test_id("set").last
    expect(pictures.get_by_test_id("thumb-down").first).to_have_attribute("aria-pressed", "true")
    expect(pictures.get_by_test_id("best").nth(2)).to_have_attribute("aria-pressed", "true")
    expect(pictures.get_by_test_id("best").nth(1)).to_have_attribute("aria-pressed", "false")


def test_a_kept_seed_draws_the_same_pictures(easel: Page, served: Served) -> None:
    first = ids(draw(easel))
    easel.get_by_test_id("lock").click()
    assert easel.get_by_test_id("control-seed").input_value()
    expect(easel.get_by_test_id("lock")).to_have_attribute("aria-pressed", "true")
    second = ids(draw(easel))
    for one, other in zip(first, second, strict=True):
        pixels = [ImageCodec.pixels_of(works.file(served.store, output)[1]) for output in (one, other)]
        assert one != other
        assert np.array_equal(*pixels)


def test_a_walk_to_a_second_prompt(easel: Page, served: Served) -> None:
    set_control(easel, "toward", "a blue square")
    set_control(easel, "n", "3")
    pictures = draw(easel)
    expect(pictures.get_by_test_id("title")).to_have_text("a red circle → a blue square")
    work, _ = works.output(served.store, ids(pictures)[0])
    assert (work.request["toward"], len(work.outputs)) == ("a blue square", 3)


def test_only_what_a_model_understands_is_shown(easel: Page, served: Served) -> None:
    for name, there in (("steps", True), ("guidance_scale", True), ("negative_prompt", True), ("temperature", False),
                        ("size", True)):
        expect(easel.get_by_test_id(f"control-{name}")).to_be_visible(visible=there)
    expect(easel.get_by_test_id("control-size")).to_have_value("16x16")
    expect(easel.get_by_test_id("control-size")).to_have_js_property("readOnly", True)  # it draws no other
    prompt, known = easel.get_by_test_id("prompt"), easel.locator("#known option")
    prompt.press_sequentially("a g")
    assert known.evaluate_all("options => options.map(option => option.value)") == ["a green"]
    prompt.fill("")
    easel.get_by_test_id("model").select_option(served.digits)
    expect(easel.get_by_test_id("control-temperature")).to_be_visible()
    for name in ("steps", "guidance_scale", "negative_prompt", "sampler"):
        expect(easel.get_by_test_id(f"control-{name}")).to_be_hidden()
    prompt.press_sequentially("7")
    assert "7" in known.evaluate_all("options => options.map(option => option.value)")
    set_control(easel, "n", "2")
    made = draw(easel, "7")
    assert len(ids(made)) == 2
    made.get_by_test_id("edit").first.click()  # a vae varies a picture as a whole
    expect(easel.get_by_test_id("start-prompt")).to_be_focused()
    expect(easel.get_by_test_id("paint")).to_be_hidden()
    with drawing(easel):
        easel.get_by_test_id("start-draw").click()
    easel.reload()
    expect(easel.get_by_test_id("model")).to_have_value(served.digits)
    expect(easel.get_by_test_id("control-n")).to_have_value("2")


def test_inside_a_picture(easel: Page, served: Served) -> None:
    pictures = draw(easel)
    pictures.get_by_test_id("edit").first.click()
    paint_stroke(easel)
    easel.get_by_test_id("start-prompt").fill("a blue square")
    with drawing(easel) as made:
        easel.get_by_test_id("start-draw").click()
    output = ids(made[0])[0]
    made[0].get_by_test_id("inside-link").first.click()
    expect(easel.get_by_test_id("replayed")).to_have_text("made again, equal pixel for pixel")
    work, _ = works.output(served.store, output)
    steps = work.request["controls"]["steps"]
    expect(easel.get_by_test_id("small-frame")).to_have_count(steps)
    slider = easel.get_by_test_id("step")
    expect(slider).to_have_value(str(steps - 1))

    def shown() -> str:
        return str(easel.get_by_test_id("frame").evaluate("canvas => canvas.toDataURL().split(',')[1]"))

    last = shown()
    _, file = works.file(served.store, output)
    assert np.array_equal(ImageCodec.pixels_of(base64.b64decode(last)), ImageCodec.pixels_of(file))
    slider.press("Home")
    expect(easel.get_by_text(f"Step 1 of {steps}")).to_be_visible()
    easel.wait_for_function("before => document.querySelector('#frame').toDataURL().split(',')[1] !== before", arg=last)
    expect(easel.get_by_test_id("file-digest")).to_have_attribute("title", work.lineage["files"][0])
    expect(easel.get_by_test_id("asked")).to_have_text("a blue square")
    for part in ("image", "mask"):
        expect(easel.get_by_test_id(f"given-{part}")).to_have_js_property("naturalWidth", 16)
    expect(easel.get_by_test_id("controls-used")).to_contain_text(f"steps {steps}")
    expect(easel.get_by_test_id("lineage")).to_contain_text(served.pictures)
    easel.goto("/inside")
    expect(easel.get_by_test_id("thumb").first).to_have_js_property("naturalWidth", 16)


def test_a_models_page_shows_what_it_drew(page: Page, served: Served, small_workshop: SmallWorkshop) -> None:
    run = served.home / "runs" / served.pictures
    (run / "samples").mkdir(parents=True)
    sheet = ImageCodec.png(np.full((3, 20, 30), 99, np.uint8))
    (run / "samples" / "00000007.png").write_bytes(sheet)
    (run / "report.html").write_text("<style>b { color: red }</style><b>drawn</b><script>alert(1)</script>")
    page.goto("/models")
    expect(page.get_by_test_id("bundles")).to_contain_text("draws pictures")
    page.goto(f"/models/{served.pictures}")
    expect(page.get_by_test_id("extent")).to_have_text("16×16 pixels")
    expect(page.get_by_test_id("sheet")).to_have_js_property("naturalWidth", 30)
    said = page.request.get(page.get_by_test_id("report").get_attribute("href") or "")
    assert "sandbox" in said.headers["content-security-policy"]
    assert "script-src" not in said.headers["content-security-policy"]
    page.get_by_test_id("try").click()
    expect(page.get_by_test_id("model")).to_have_value(served.pictures)


def test_an_error_says_what_to_do(chromium: Browser, served: Served) -> None:
    context = chromium.new_context(base_url=served.url)  # unwatched: the browser itself tells the console of failures
    page = context.new_page()
    open_pictures(page, served.pictures)
    page.get_by_test_id("prompt").fill("a red circel")
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("problem")).to_contain_text("circel")
    expect(page.get_by_test_id("problem")).to_contain_text("circle")
    page.route("**/v1/images/generations", lambda route: route.abort())
    page.get_by_test_id("prompt").fill("a red circle")
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("problem").last).to_contain_text("cannot be reached")
    page.unroute("**/v1/images/generations")
    page.get_by_test_id("retry").last.click()  # in the place of what failed
    expect(page.get_by_test_id("set").last.get_by_test_id("inside-link")).to_have_count(4)
    for path in ("bt-nothing.0.png", "bt-nothing.0/image.png", f"models/{served.lm}"):
        assert page.request.get(f"/studio/pictures/{path}").status in (400, 404)
    context.close()


def test_the_tabs_by_keyboard(page: Page, served: Served) -> None:
    page.goto("/")
    page.get_by_test_id("tab-image").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/pictures")
    expect(page.get_by_test_id("tab-image")).to_have_attribute("aria-current", "page")
    page.reload()
    expect(page.get_by_test_id("send")).to_be_enabled()
    page.get_by_test_id("tab-text").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("message")).to_be_focused()
    options = page.get_by_test_id("model-a").locator("option").all_inner_texts()
    assert not any(served.pictures in option for option in options)


def test_a_phone_in_the_dark(chromium: Browser, served: Served) -> None:
    context = chromium.new_context(base_url=served.url, viewport={"width": 390, "height": 844}, color_scheme="dark",
                                   has_touch=True)
    page = context.new_page()
    watch = Watch(page, served.url)
    open_pictures(page, served.pictures)
    pictures = draw(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert int(page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0]")) < 60
    pictures.get_by_test_id("edit").first.click()
    box = page.get_by_test_id("paint").bounding_box()
    assert box is not None
    assert box["width"] <= 358
    page.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    expect(page.get_by_test_id("paint-status")).to_contain_text("will be redrawn")
    assert " 0 %" not in page.get_by_test_id("paint-status").inner_text()
    page.keyboard.press("Escape")
    page.get_by_test_id("controls").click()
    expect(page.get_by_test_id("control-steps")).to_be_visible()
    page.goto(f"/inside/{ids(pictures)[0]}")
    expect(page.get_by_test_id("replayed")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    context.close()
    assert watch.problems == []


def test_a_workshop_that_keeps_nothing_still_shows_what_was_drawn(page: Page, served: Served) -> None:
    settings.put(served.store, "retention_days", 0, actor="test")
    try:
        open_pictures(page, served.pictures)
        pictures = draw(page)
        with page.expect_download() as download:
            pictures.get_by_test_id("save").first.click()
        assert ImageCodec.pixels_of(Path(download.value.path()).read_bytes()).shape == (3, 16, 16)
        with drawing(page) as made:
            pictures.get_by_test_id("vary").first.click()
        output = ids(made[0])[0]
        page.goto("/pictures")
        expect(page.get_by_test_id("send")).to_be_enabled()
        assert output not in page.content()
        page.goto(f"/inside/{output}")
        expect(page.get_by_test_id("frames-status")).to_contain_text("forgotten")
    finally:
        settings.put(served.store, "retention_days", -1, actor="test")
