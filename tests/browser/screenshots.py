"""Takes the pictures of the documentation: `BOTTEGA_HOME=workshop python -m tests.browser.screenshots docs/img`.

Needs the models of `bottega demo`; works on a copy of the workshop, asks, judges and improves as a person would.
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.browser.conftest import CHROMIUM, QUIET, serve
from tests.browser.studio import answered, ask, compare, set_control

_ASKED = "Hello, I am {}. {} What now?"
_TROUBLES = ("The kettle arrived broken, order {}, it came last week.", "You sent the wrong chair, order {}.",
             "My lamp has not come yet, order {}.", "I no longer want the desk, my order {}, delivered 2 months ago.")
_NAMES = ("Ana", "Leo", "Mia", "Ben")


def _new_page(browser: Browser, url: str, *, dark: bool = False, phone: bool = False) -> Page:
    size = {"width": 390, "height": 844} if phone else {"width": 1280, "height": 800}
    context = browser.new_context(base_url=url, viewport=size, color_scheme="dark" if dark else "light",
                                  device_scale_factor=2 if phone else 1.5)
    page = context.new_page()
    page.set_default_timeout(60_000)
    return page


def _conversation(page: Page, picture: Path) -> str:
    """Ask two things, show the second answer, and return the address of the glass box of the first."""
    page.goto("/")
    ask(page, "Hello, I am Mia. My lamp has not come yet, order 4214. What now?")
    inside = answered(page).get_by_test_id("inside-link").get_attribute("href") or ""
    page.get_by_test_id("new").click()
    ask(page, "Hello, I am Ana. The kettle arrived broken, order 4821, it came last week. What now?")
    answer = answered(page)
    answer.get_by_test_id("thumb-up").click()
    answer.get_by_test_id("reason").first.click()
    page.mouse.move(0, 0)
    page.wait_for_timeout(300)
    page.screenshot(path=picture)
    return inside


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
                page.screenshot(path=picture)  # the last one stays
                page.get_by_test_id(f"judge-{'a' if len(answers[0]) > len(answers[1]) else 'b'}").click()
                expect(page.get_by_test_id("judged")).to_be_visible()


def main(folder: Path) -> None:
    """Write create-light, create-dark, inside-light, ab, models and phone as PNG into a folder."""
    home = Path(os.environ.get("BOTTEGA_HOME", "workshop"))
    folder.mkdir(parents=True, exist_ok=True)
    expect.set_options(timeout=60_000)
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as started:
        copy = Path(temporary)
        shutil.copytree(home / "models", copy / "models")
        for file in home.glob("data/*/lineage.json"):
            (copy / "data" / file.parent.name).mkdir(parents=True)
            shutil.copy(file, copy / "data" / file.parent.name)
        with serve(copy) as url:
            browser = started.chromium.launch(executable_path=CHROMIUM, args=QUIET)
            light = _new_page(browser, url)
            inside = _conversation(light, folder / "create-light.png")
            _conversation(_new_page(browser, url, dark=True), folder / "create-dark.png")
            _conversation(_new_page(browser, url, phone=True), folder / "phone.png")
            light.goto(inside)
            light.get_by_test_id("token").first.wait_for()
            light.get_by_label("Tokens", exact=True).evaluate("section => section.scrollIntoView()")
            light.screenshot(path=folder / "inside-light.png")
            _judge(light, folder / "ab.png")
            light.goto("/models/assistant")
            light.get_by_test_id("improve").click()
            expect(light.get_by_test_id("status")).to_have_text("waiting", timeout=600_000)
            light.screenshot(path=folder / "models.png")
            browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/img"))
