"""The whole loop by clicks: twenty choices, a challenger, the comparison, the approval, and the name answers anew."""

import pytest
from playwright.sync_api import Page, expect

from bottega.workshop import feedback, improvements, registry, works
from tests.browser.conftest import Served
from tests.browser.studio import answered, ask, compare, set_control

NAMES = ("Ana", "Leo", "Mia", "Ben", "Eva", "Tom")
TROUBLES = ("The kettle arrived broken, order 4821, it came last week.", "I no longer want the desk, order 7305.",
            "My lamp has not come yet, order 5150.", "You sent the wrong chair, order 6002.",
            "I paid twice for the rug, order 7788.", "The clock stopped after a month, order 3141.")
CHOICES = 20


@pytest.mark.slow
def test_choices_become_the_next_model(page: Page, served: Served) -> None:
    page.goto("/")
    page.get_by_test_id("compare").click()
    for side, temperature in (("a", "0.7"), ("b", "1.4")):
        page.locator(f"[data-side={side}]").click()
        set_control(page, "temperature", temperature)
        set_control(page, "max_tokens", "60")
    prompts = [f"Hello, I am {name}. {trouble} What now?" for name in NAMES for trouble in TROUBLES]
    for prompt in prompts:
        page.get_by_test_id("new").click()
        compare(page, prompt)
        answers = [page.get_by_test_id("answer").nth(place).inner_text().strip() for place in (0, 1)]
        if answers[0] == answers[1]:
            continue
        page.get_by_test_id(f"judge-{'a' if len(answers[0]) <= len(answers[1]) else 'b'}").click()
        expect(page.get_by_test_id("judged")).to_be_visible()
        if feedback.counts(served.store, "assistant")["choice"] >= CHOICES:
            break
    assert feedback.counts(served.store, "assistant")["choice"] == CHOICES

    page.goto("/models/assistant")
    expect(page.get_by_test_id("count-choice")).to_have_text(str(CHOICES))
    page.get_by_test_id("improve").click()
    expect(page.get_by_test_id("status")).to_be_visible()
    page.reload()  # the run does not depend on the page
    expect(page.get_by_test_id("status")).to_have_text("waiting", timeout=240_000)
    run = improvements.listed(served.store, "assistant")[0]
    assert run.comparison is not None
    expect(page.get_by_test_id("verdict")).to_have_text(run.comparison["verdict"])
    expect(page.get_by_test_id("comparison")).to_contain_text("prefers your choice")
    page.get_by_test_id("approve").click()
    page.get_by_test_id("reason").fill("shorter")
    page.get_by_test_id("decide-confirm").click()
    expect(page.get_by_test_id("status")).to_have_text("approved")
    expect(page.get_by_test_id("behind")).to_have_text(run.challenger)
    expect(page.get_by_test_id("history").locator("tbody tr").first).to_contain_text("shorter")
    assert registry.aliases(served.store)["assistant"].model_digest == run.challenger_digest

    page.goto("/")
    page.get_by_test_id("compare").click()
    page.get_by_test_id("new").click()
    ask(page)
    work, _ = works.output(served.store, answered(page).get_attribute("data-id") or "")
    assert (work.alias, work.model, work.model_digest) == ("assistant", run.challenger, run.challenger_digest)
