"""The Create page in a real browser against a real server: stream, stop, branch, compare, judge; keyboard and phone."""

import pytest
from playwright.sync_api import Browser, Page, expect

from bottega.workshop import feedback, works
from tests.browser.conftest import Served, Watch
from tests.browser.studio import QUESTION, answered, ask, compare, set_control, text_of

RECORD = """() => {
  window.lengths = [];
  new MutationObserver(() => {
    const answer = document.querySelector('[data-testid=answer]');
    const length = answer ? answer.textContent.length : 0;
    if (length && length !== window.lengths.at(-1)) window.lengths.push(length);
  }).observe(document.body, {childList: true, subtree: true, characterData: true});
}"""

BEGUN = """() => new Promise(resolve => {
  const look = () => {
    const answer = document.querySelector('[data-testid=answer]');
    if (answer && answer.textContent.trim().length > 3) resolve();
    else requestAnimationFrame(look);
  };
  look();
})"""


def test_an_answer_grows_while_it_is_made_and_survives_a_reload(page: Page, served: Served) -> None:
    page.goto("/")
    expect(page.get_by_test_id("examples").locator("button").first).to_be_visible()
    page.evaluate(RECORD)
    ask(page)
    answer = answered(page)
    lengths = page.evaluate("window.lengths")
    assert len(lengths) >= 3
    assert lengths == sorted(lengths)
    said, output = text_of(answer), answer.get_attribute("data-id") or ""
    work, kept = works.output(served.store, output)
    assert (work.door, work.status) == ("studio", "done")
    assert kept.text is not None
    assert kept.text.split() == said.split()
    assert f"seed {work.seed}" in answer.get_by_test_id("facts").inner_text()
    page.reload()
    expect(page.get_by_test_id("user")).to_have_count(1)
    assert text_of(page.get_by_test_id("assistant")) == said


def test_escape_stops_and_keeps_what_is_there(page: Page, served: Served) -> None:
    page.goto("/")
    page.locator("summary").click()  # a list that does not end before the context is full
    page.get_by_test_id("control-schema").fill('{"type": "array", "items": {"type": "integer"}, "minItems": 500}')
    ask(page, "Count.")
    page.evaluate(BEGUN)
    page.keyboard.press("Escape")
    answer = answered(page)
    expect(answer.get_by_test_id("finish")).to_have_text("stopped")
    said = text_of(answer)
    assert said.strip()
    page.wait_for_timeout(300)
    assert text_of(answer) == said
    page.get_by_test_id("reset").click()
    ask(page, "And now?")  # the conversation goes on
    answered(page)
    expect(page.get_by_test_id("assistant")).to_have_count(2)
    assert any(work.status == "cancelled" for work in works.works(served.store))


def test_another_answer_keeps_the_earlier_one_in_reach(page: Page) -> None:
    page.goto("/")
    set_control(page, "temperature", "1.5")
    ask(page)
    first = answered(page).get_attribute("data-id")
    page.get_by_test_id("regenerate").click()
    expect(page.get_by_test_id("sibling")).to_have_text("2 / 2")
    assert answered(page).get_attribute("data-id") != first
    page.get_by_role("button", name="Earlier answer").click()
    assert answered(page).get_attribute("data-id") == first


def test_what_was_said_to_an_answer_stays_with_it(page: Page) -> None:
    page.goto("/")
    set_control(page, "temperature", "1.5")
    set_control(page, "max_tokens", "8")
    said = page.get_by_test_id("said")
    ask(page, "Hello.")
    answered(page)
    ask(page, "To the first.")
    answered(page)
    page.get_by_test_id("regenerate").first.click()
    answered(page)
    expect(said).to_have_text(["Hello."])
    ask(page, "To the second.")
    answered(page)
    page.get_by_role("button", name="Earlier answer").click()
    expect(said).to_have_text(["Hello.", "To the first."])
    page.reload()
    page.get_by_role("button", name="Later answer").click()
    expect(said).to_have_text(["Hello.", "To the second."])
    page.locator("summary").click()  # a list that does not end before the context is full
    page.get_by_test_id("control-schema").fill('{"type": "array", "items": {"type": "integer"}, "minItems": 500}')
    set_control(page, "max_tokens", "400")
    ask(page, "Count.")
    expect(page.get_by_test_id("stop")).to_be_visible()
    expect(page.get_by_role("button", name="Earlier answer")).to_be_disabled()
    page.keyboard.press("Escape")
    expect(page.get_by_test_id("stop")).to_be_hidden()
    expect(page.get_by_role("button", name="Earlier answer")).to_be_enabled()


def test_a_kept_seed_makes_the_same_answer_again(page: Page) -> None:
    page.goto("/")
    set_control(page, "temperature", "1.5")
    ask(page)
    said = text_of(answered(page))
    page.get_by_test_id("lock").click()
    assert page.get_by_test_id("control-seed").input_value()
    page.get_by_test_id("regenerate").click()
    expect(page.get_by_test_id("sibling")).to_have_text("2 / 2")
    assert text_of(answered(page)) == said


def test_editing_a_message_drops_what_followed(page: Page, served: Served) -> None:
    page.goto("/")
    for text in ("Hello, I am Mia.", "The lamp is late."):
        ask(page, text)
        answered(page)
    page.get_by_test_id("user").first.hover()
    page.get_by_test_id("edit-message").first.click()
    page.get_by_test_id("message-text").fill("Hello, I am Ben.")
    page.get_by_test_id("message-save").click()
    answer = answered(page)
    expect(page.get_by_test_id("said")).to_have_text(["Hello, I am Ben."])
    work, _ = works.output(served.store, answer.get_attribute("data-id") or "")
    assert [message["content"] for message in work.request["messages"]] == ["Hello, I am Ben."]


def test_system_prompt_and_controls_reach_the_model(page: Page, served: Served) -> None:
    page.goto("/")
    page.get_by_test_id("system").fill("You are brief.")
    set_control(page, "max_tokens", "5")
    page.locator("summary").click()
    page.get_by_test_id("control-schema").fill("{")
    expect(page.locator("#schema-error")).to_be_visible()
    page.get_by_test_id("control-schema").fill('{"type": "object", "properties": {"a": {"enum": [1]}}}')
    ask(page)
    answer = answered(page)
    work, _ = works.output(served.store, answer.get_attribute("data-id") or "")
    assert work.request["messages"][0] == {"role": "system", "content": "You are brief."}
    assert work.request["controls"]["max_tokens"] == 5
    assert work.request["controls"]["format"]["json_schema"]["type"] == "object"
    page.reload()
    expect(page.get_by_test_id("control-max_tokens")).to_have_value("5")


def test_a_model_that_only_continues_gets_the_text_as_it_stands(page: Page, served: Served) -> None:
    page.goto("/")
    page.get_by_test_id("model-a").select_option(served.lm)
    ask(page, "def add(a, b):")
    answer = answered(page)
    work, _ = works.output(served.store, answer.get_attribute("data-id") or "")
    assert work.request["prompt"] == "def add(a, b):"
    assert work.model == served.lm


def test_thumb_reasons_comment_and_edit_are_kept(page: Page, served: Served) -> None:
    page.goto("/")
    ask(page)
    output = answered(page).get_attribute("data-id") or ""
    page.get_by_test_id("thumb-down").click()
    page.get_by_test_id("reason").first.click()
    page.get_by_test_id("comment").fill("It forgot the order number.")
    page.get_by_test_id("why-send").click()
    expect(page.get_by_test_id("why")).to_be_hidden()
    expect(page.get_by_test_id("thumb-down")).to_have_attribute("aria-pressed", "true")
    page.get_by_test_id("edit-answer").click()
    page.get_by_test_id("answer-text").fill("We refund 40 euros.")
    page.get_by_test_id("answer-save").click()
    expect(page.get_by_test_id("edited")).to_be_visible()
    kept = [entry for entry in feedback.listed(served.store, output=output) if entry["replaced_by"] is None]
    assert {entry["kind"] for entry in kept} == {"thumb", "comment", "edit"}
    by_kind = {entry["kind"]: entry for entry in kept}
    assert (by_kind["thumb"]["value"], by_kind["thumb"]["reasons"]) == (-1, ["wrong"])
    assert by_kind["comment"]["text"] == "It forgot the order number."
    assert by_kind["edit"]["text"] == "We refund 40 euros."
    ask(page, "Thank you.")
    answer = answered(page)
    work, _ = works.output(served.store, answer.get_attribute("data-id") or "")
    assert work.request["messages"][1] == {"role": "assistant", "content": "We refund 40 euros."}


@pytest.mark.parametrize(("judgement", "kind"),
                         [("a", "choice"), ("b", "choice"), ("equal", "thumb"), ("bad", "thumb")])
def test_a_blind_judgement_is_kept_and_the_conversation_goes_on(page: Page, served: Served, judgement: str,
                                                                kind: str) -> None:
    page.goto("/")
    page.get_by_test_id("compare").click()
    page.get_by_test_id("side-b").click()
    set_control(page, "temperature", "1.8")
    compare(page)
    shown = page.get_by_test_id("assistant")
    ids = [shown.nth(place).get_attribute("data-id") or "" for place in (0, 1)]
    texts = [works.output(served.store, output)[1].text for output in ids]
    assert "temperature" not in page.get_by_test_id("pair").inner_text()
    page.get_by_test_id(f"judge-{judgement}").click()
    expect(page.get_by_test_id("judged")).to_be_visible()
    assert "temperature 1.8" in page.get_by_test_id("pair").inner_text()
    kept = [entry for entry in feedback.listed(served.store, kind=kind) if entry["output"] in ids]
    chosen = 1 if judgement == "b" else 0
    if kind == "choice":
        assert [(entry["output"], entry["rejected"]) for entry in kept] == [(ids[chosen], ids[1 - chosen])]
    else:
        assert [entry["value"] for entry in kept] == [1 if judgement == "equal" else -1] * 2
    page.get_by_test_id("compare").click()
    ask(page, "Thank you.")
    answer = answered(page)
    work, _ = works.output(served.store, answer.get_attribute("data-id") or "")
    assert work.request["messages"][1]["content"] == texts[chosen]


def test_what_the_guard_found_is_a_chip(page: Page) -> None:
    page.goto("/")
    ask(page, "Write to ana@example.com, please.")
    answered(page)
    expect(page.get_by_test_id("verdict").first).to_contain_text("email")


def test_an_error_says_what_to_do(chromium: Browser, served: Served) -> None:
    context = chromium.new_context(base_url=served.url)  # unwatched: the browser itself tells the console of failures
    page = context.new_page()
    page.goto("/")
    page.route("**/v1/chat/completions", lambda route: route.abort())
    ask(page, "And now?")
    expect(page.get_by_test_id("problem")).to_contain_text("cannot be reached")
    page.unroute("**/v1/chat/completions")
    page.get_by_test_id("retry").click()
    answered(page)
    expect(page.get_by_test_id("problem")).to_have_count(0)
    busy = {"status": 429, "headers": {"Retry-After": "1"}, "json": {"error": {"message": "full"}}}
    page.route("**/v1/chat/completions", lambda route: route.fulfill(**busy))
    ask(page, "And then?")
    expect(page.get_by_test_id("problem")).to_contain_text("Try again in 1 s")
    expect(page.get_by_test_id("retry")).to_be_enabled()
    page.unroute("**/v1/chat/completions")
    ask(page, "x" * 5000)
    expect(page.get_by_test_id("problem").last).to_contain_text("context")
    context.close()


def test_everything_by_keyboard(page: Page) -> None:
    page.goto("/")
    page.keyboard.type("Hello")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("I am Ana.")
    page.keyboard.press("Enter")
    answered(page)
    expect(page.get_by_test_id("said")).to_have_text("Hello\nI am Ana.")
    page.keyboard.press("Control+/")
    expect(page.get_by_test_id("shortcuts")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_test_id("shortcuts")).to_be_hidden()
    page.keyboard.press("Shift+Escape")
    expect(page.get_by_test_id("message")).to_be_focused()
    page.keyboard.press("/")
    expect(page.get_by_test_id("prompt-picker")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("Control+.")
    expect(page.locator("#panel")).to_be_hidden()
    page.get_by_test_id("message").focus()
    order = []
    for _ in range(40):  # from the message backwards through the answer's buttons
        page.keyboard.press("Shift+Tab")
        order.append(page.evaluate("document.activeElement.dataset.testid ?? ''"))
    passed = [name for name in dict.fromkeys(order) if name in ("thumb-up", "inside-link", "edit-message")]
    assert passed == ["inside-link", "thumb-up", "edit-message"]
    page.get_by_test_id("thumb-up").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("why")).to_be_visible()
    page.keyboard.press("Control+Shift+O")
    expect(page.get_by_test_id("user")).to_have_count(0)
    expect(page.get_by_test_id("message")).to_be_focused()


def test_a_phone_never_scrolls_sideways(chromium: Browser, served: Served) -> None:
    context = chromium.new_context(base_url=served.url, viewport={"width": 390, "height": 844})
    page = context.new_page()
    watch = Watch(page, served.url)
    page.goto("/")
    ask(page, QUESTION)
    answered(page)
    inside = page.get_by_test_id("inside-link").get_attribute("href") or ""
    for path in ("/", inside, "/inside", "/models", "/models/assistant", "/prompts", "/login"):
        page.goto(path)
        page.wait_for_timeout(150)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, path
    page.goto("/")
    expect(page.get_by_test_id("nav-models")).to_be_hidden()
    page.get_by_role("button", name="Menu").click()
    page.get_by_test_id("nav-models").click()
    page.wait_for_url("**/models")
    context.close()
    assert watch.problems == []


def test_dark_by_the_system_and_by_choice(chromium: Browser, served: Served) -> None:
    context = chromium.new_context(base_url=served.url, color_scheme="dark")
    page = context.new_page()
    page.goto("/")
    def lightness() -> int:
        return int(page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0]"))
    assert lightness() < 60
    page.get_by_test_id("theme").click()  # system → light
    assert lightness() > 200
    page.reload()
    assert lightness() > 200
    context.close()
