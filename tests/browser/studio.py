"""What a person does in the studio, as short functions for the tests."""

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
