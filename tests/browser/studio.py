"""What a person does in the studio, as short functions for the tests."""

import contextlib
from collections.abc import Iterator

from playwright.sync_api import Locator, Page, expect

QUESTION = "Hello, I am Ana. The kettle arrived broken, order 4821, it came last week. What now?"


def ask(page: Page, text: str = QUESTION) -> None:
    """Send a message with the keyboard."""
    page.get_by_test_id("message").fill(text)
    page.keyboard.press("Enter")


def answered(page: Page) -> Locator:
    """Wait until the last answer is complete and return it."""
    expect(page.get_by_test_id("stop")).to_be_hidden()
    last = page.get_by_test_id("assistant").last
    expect(last.get_by_test_id("inside-link")).to_be_visible()
    return last


def text_of(answer: Locator) -> str:
    """Return the words of an answer."""
    return answer.get_by_test_id("answer").inner_text()


def set_control(page: Page, name: str, value: str) -> None:
    """Type a control's value into the panel, which is open on a wide screen."""
    field = page.get_by_test_id(f"control-{name}")
    field.fill(value)
    field.press("Tab")


def compare(page: Page, text: str = QUESTION) -> None:
    """Ask two settings and wait until both answered."""
    ask(page, text)
    expect(page.get_by_test_id("judge-a").last).to_be_enabled()


def open_pictures(page: Page, model: str) -> None:
    """Go to the tab of pictures and choose a model; the earlier pictures are there, too."""
    with page.expect_response("**/studio/pictures/works"):
        page.goto("/pictures")
    page.get_by_test_id("model").select_option(model)
    expect(page.get_by_test_id("send")).to_be_enabled()


@contextlib.contextmanager
def drawing(page: Page) -> Iterator[list[Locator]]:
    """Wait until what is asked for inside is drawn; the list holds the set then."""
    sets, found = page.get_by_test_id("set"), list[Locator]()
    before = sets.count()
    yield found
    expect(sets).to_have_count(before + 1)
    expect(sets.nth(before)).to_have_attribute("aria-busy", "false")
    found.append(sets.nth(before))


def draw(page: Page, prompt: str = "a red circle") -> Locator:
    """Ask for pictures with the keyboard, wait until all are there, and return the set."""
    with drawing(page) as made:
        page.get_by_test_id("prompt").fill(prompt)
        page.keyboard.press("Enter")
    return made[0]


def ids(pictures: Locator) -> list[str]:
    """Return the ids of the pictures of a set."""
    return [tile.get_attribute("data-id") or "" for tile in pictures.get_by_test_id("tile").all()]
