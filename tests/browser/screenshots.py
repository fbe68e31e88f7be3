"""Takes the pictures of the documentation: `BOTTEGA_HOME=workshop python -m tests.browser.screenshots docs/img`.

Needs the models of `bottega demo`; symbols-diffusion, patients-table and molecules-graph or communities-graph for the
pages of pictures, tables and graphs (what is missing is left out). Works on a copy of the workshop; asks, judges,
improves, draws and edits as a person would.
"""

import io
import os
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.browser.conftest import CHROMIUM, QUIET, serve
from tests.browser.studio import answered, ask, compare, draw, drawing, ids, open_pictures, set_control

_ASKED = "Hello, I am {}. {} What now?"
_TROUBLES = ("The kettle arrived broken, order {}, it came last week.", "You sent the wrong chair, order {}.",
             "My lamp has not come yet, order {}.", "I no longer want the desk, my order {}, delivered 2 months ago.")
_PICTURES, _TABLE, _GRAPHS = "symbols-diffusion", "patients-table", ("molecules-graph", "communities-graph")
_DRAWN = "a small red star above a blue moon"
_EDITED = "a small red star above a green heart"  # all that the picture shall show
_NAMES = ("Ana", "Leo", "Mia", "Ben")


def _new_page(browser: Browser, url: str, *, dark: bool = False, phone: bool = False) -> Page:
    size = {"width": 390, "height": 844} if phone else {"width": 1280, "height": 800}
    context = browser.new_context(base_url=url, viewport=size, color_scheme="dark" if dark else "light",
                                  device_scale_factor=2 if phone else 1.5)
    page = context.new_page()
    page.set_default_timeout(60_000)
    return page


def _shoot(page: Page, file: Path) -> None:
    """Take a picture of the page when all has come to rest, with the mouse out of the way."""
    page.mouse.move(0, 0)
    page.wait_for_timeout(300)
    _smaller(page.screenshot(), file)


def _smaller(content: bytes, file: Path) -> None:
    """Write a PNG with 256 colours: half the bytes, and no difference to be seen on pages of few colours."""
    with Image.open(io.BytesIO(content)) as picture:
        picture.convert("RGB").quantize(256, kmeans=3, dither=Image.Dither.NONE).save(file, optimize=True)


def _conversation(page: Page, picture: Path) -> str:
    """Ask two things, show the second answer, and return the address of the glass box of the first."""
    page.goto("/")
    ask(page, "Hello, I am Mia. You sent the wrong chair, order 4214. What now?")
    inside = answered(page).get_by_test_id("inside-link").get_attribute("href") or ""
    page.get_by_test_id("new").click()
    ask(page, "Hello, I am Ana. The kettle arrived broken, order 4821, it came last week. What now?")
    answer = answered(page)
    answer.get_by_test_id("thumb-up").click()
    answer.get_by_test_id("reason").first.click()
    _shoot(page, picture)
    return inside


def _rate(page: Page, picture: Path) -> None:
    """Score an answer, and say what would help in its first sentence."""
    page.goto("/")
    page.get_by_test_id("new").click()
    ask(page, "Hello, I am Leo. You sent the wrong chair, order 4107. What now?")
    answer = answered(page)
    answer.get_by_test_id("rate").click()
    for aspect, score in (("", 4), ("correct", 5), ("tone", 3)):
        answer.locator(f'[data-aspect="{aspect}"]').get_by_text(str(score), exact=True).click()
    answer.get_by_test_id("mark").evaluate(
        "field => { field.focus(); field.setSelectionRange(0, field.value.search(/[.!?]/) + 1); }")
    answer.get_by_test_id("critique-aspect").select_option("tone")
    answer.get_by_test_id("critique").fill("A warmer word would help here.")
    answer.get_by_test_id("mark").focus()
    answer.get_by_test_id("rating-send").scroll_into_view_if_needed()
    _shoot(page, picture)


def _judge(page: Page, picture: Path) -> None:
    """Compare two settings over several prompts and prefer the longer answer, which is the politer one here."""
    page.goto("/")
    page.get_by_test_id("compare").click()
    page.get_by_test_id("side-b").click()
    set_control(page, "temperature", "1.3")
    for number, name in enumerate(_NAMES):
        for place, trouble in enumerate(_TROUBLES):
            page.get_by_test_id("new").click()
            compare(page, _ASKED.format(name, trouble.format(4000 + 100 * number + 7 * place)))
            answers = [page.get_by_test_id("answer").nth(side).inner_text() for side in (0, 1)]
            if answers[0] != answers[1]:
                _shoot(page, picture)  # the last one stays
                page.get_by_test_id(f"judge-{'a' if len(answers[0]) > len(answers[1]) else 'b'}").click()
                expect(page.get_by_test_id("judged")).to_be_visible()


def _pictures(page: Page, folder: Path) -> None:
    """Draw four, redraw a part of one, and open one of the results."""
    open_pictures(page, _PICTURES)
    made = draw(page, _DRAWN)
    made.get_by_test_id("best").nth(1).click()
    made.get_by_test_id("edit").nth(1).click()
    box = page.get_by_test_id("paint").bounding_box()
    assert box is not None
    for height in (0.56, 0.68, 0.8, 0.92):  # the lower half
        page.mouse.move(box["x"] + 0.15 * box["width"], box["y"] + height * box["height"])
        page.mouse.down()
        page.mouse.move(box["x"] + 0.85 * box["width"], box["y"] + height * box["height"], steps=6)
        page.mouse.up()
    page.get_by_test_id("start-prompt").fill(_EDITED)
    _shoot(page, folder / "paint.png")
    with drawing(page) as edited:
        page.get_by_test_id("start-draw").click()
    _shoot(page, folder / "pictures.png")
    page.goto(f"/inside/{ids(edited[0])[0]}")
    expect(page.get_by_test_id("small-frame").last).to_have_attribute("aria-pressed", "true")
    _shoot(page, folder / "inside-picture.png")


def _table(page: Page, picture: Path) -> None:
    """Make rows that meet a condition."""
    page.goto(f"/tables?model={_TABLE}")
    expect(page.get_by_test_id("make")).to_be_enabled()
    page.get_by_test_id("rows").fill("200")
    page.get_by_test_id("seed").fill("5")
    page.get_by_test_id("add").click()
    page.get_by_test_id("column").first.select_option("diagnosis")
    page.get_by_test_id("value").first.select_option("malignant")
    page.get_by_test_id("make").click()
    expect(page.get_by_test_id("status")).to_contain_text("200 rows")
    page.locator("fieldset").first.evaluate("node => node.scrollIntoView()")
    _shoot(page, picture)


def _graphs(page: Page, model: str, picture: Path) -> None:
    """Make graphs and show their drawings."""
    page.goto(f"/graphs?model={model}")
    expect(page.get_by_test_id("make")).to_be_enabled()
    page.get_by_test_id("rows").fill("18")
    page.get_by_test_id("seed").fill("5")
    page.get_by_test_id("make").click()
    expect(page.get_by_test_id("drawing")).to_have_count(18)
    _shoot(page, picture)


def main(folder: Path) -> None:
    """Write create-light, create-dark, rating, inside-light, ab, models and phone as PNG into a folder.

    With a model of pictures also paint, pictures, inside-picture, pictures-dark and pictures-phone, with one of tables
    tables, with one of graphs graphs; report.png, taken by `make picture`, is made smaller.
    """
    home = Path(os.environ.get("BOTTEGA_HOME", "workshop"))
    folder.mkdir(parents=True, exist_ok=True)
    expect.set_options(timeout=60_000)
    report = folder / "report.png"
    if report.is_file():
        _smaller(report.read_bytes(), report)
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as started:
        copy = Path(temporary)
        for room in ("models", "verdicts"):  # what may be released is known with its verdict only
            if (home / room).is_dir():
                shutil.copytree(home / room, copy / room)
        for file in home.glob("data/*/lineage.json"):
            (copy / "data" / file.parent.name).mkdir(parents=True)
            shutil.copy(file, copy / "data" / file.parent.name)
        with serve(copy) as url:
            browser = started.chromium.launch(executable_path=CHROMIUM, args=QUIET)
            if (copy / "models" / _PICTURES).is_dir():
                _pictures(_new_page(browser, url), folder)
                for name, look in (("dark", {"dark": True}), ("phone", {"phone": True})):
                    page = _new_page(browser, url, **look)
                    open_pictures(page, _PICTURES)
                    _shoot(page, folder / f"pictures-{name}.png")
            if (copy / "models" / _TABLE).is_dir():
                _table(_new_page(browser, url), folder / "tables.png")
            for model in [name for name in _GRAPHS if (copy / "models" / name).is_dir()][:1]:
                _graphs(_new_page(browser, url), model, folder / "graphs.png")
            light = _new_page(browser, url)
            inside = _conversation(light, folder / "create-light.png")
            _conversation(_new_page(browser, url, dark=True), folder / "create-dark.png")
            _conversation(_new_page(browser, url, phone=True), folder / "phone.png")
            _rate(_new_page(browser, url), folder / "rating.png")
            light.goto(inside)
            light.get_by_test_id("token").first.wait_for()
            light.get_by_label("Tokens", exact=True).evaluate("section => section.scrollIntoView()")
            _shoot(light, folder / "inside-light.png")
            _judge(light, folder / "ab.png")
            light.goto("/models/assistant")
            light.get_by_test_id("improve").click()
            expect(light.get_by_test_id("status")).to_have_text("waiting", timeout=600_000)
            _shoot(light, folder / "models.png")
            browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/img"))
