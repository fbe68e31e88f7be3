"""Inside, Models, Prompts and Login in a real browser; headers and size of what is sent."""

import json
import re
import urllib.request
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

import bottega.studio
from bottega.workshop import keys, prompts, registry
from bottega.workshop.store import Store
from tests.browser.conftest import Served, Watch, serve
from tests.browser.studio import answered, ask, set_control
from tests.workshop.rated import choose, record
from tests.workshops import SmallWorkshop, copy_workshop

ASSETS = Path(bottega.studio.__file__).parent / "static"


def test_every_position_sums_up_and_can_be_walked(page: Page) -> None:
    page.goto("/")
    set_control(page, "temperature", "1.2")
    set_control(page, "top_p", "0.9")
    set_control(page, "max_tokens", "24")
    ask(page)
    answered(page).get_by_test_id("inside-link").click()
    tokens = page.get_by_test_id("token")
    expect(tokens.first).to_be_visible()
    assert "temperature 1.2" in page.get_by_test_id("controls-used").inner_text()
    tokens.first.click()
    for place in range(tokens.count()):
        expect(tokens.nth(place)).to_have_attribute("aria-selected", "true")
        rows = page.locator("[data-testid=rival], [data-testid=rest]")
        shown = rows.evaluate_all("rows => rows.map(row => [Number(row.dataset.model), Number(row.dataset.after)])")
        assert len(shown) >= 3
        for column in (0, 1):
            assert sum(row[column] for row in shown) == pytest.approx(1.0, abs=1e-3)
        assert all(0 <= share <= 1 for row in shown for share in row)
        page.keyboard.press("ArrowRight")
    expect(page.get_by_test_id("changes")).to_contain_text("top_p")
    page.keyboard.press("Home")
    expect(tokens.first).to_have_attribute("aria-selected", "true")


def test_works_are_listed_and_found(page: Page) -> None:
    page.goto("/")
    ask(page, "Where is the parcel with the cuckoo clock?")
    output = answered(page).get_attribute("data-id") or ""
    page.goto("/inside")
    expect(page.get_by_test_id("work").first).to_contain_text("cuckoo clock")
    for words in ("CUCKOO", output[:12]):
        page.get_by_test_id("search").fill(words)
        page.keyboard.press("Enter")
        expect(page.get_by_test_id("work")).to_have_count(1)
    page.get_by_test_id("search").fill("<script>alert(1)</script>")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Nothing found for")).to_be_visible()


def test_a_model_shows_where_it_came_from(page: Page, served: Served) -> None:
    page.goto("/models")
    expect(page.get_by_test_id("bundles")).to_contain_text(served.lm)
    page.get_by_test_id("alias-assistant").click()
    expect(page.get_by_test_id("behind")).to_have_text(served.assistant)
    lineage = page.get_by_test_id("lineage")
    assert lineage.get_by_test_id("lineage-model").count() >= 2
    assert lineage.get_by_test_id("lineage-dataset").count() >= 2
    for place in range(lineage.get_by_test_id("lineage-dataset").count()):
        expect(lineage.get_by_test_id("lineage-dataset").nth(place).get_by_test_id("licence").first).to_be_visible()
    expect(page.get_by_test_id("licences")).to_contain_text("PSF-2.0")
    expect(page.get_by_test_id("card")).to_contain_text("Intended use")
    expect(page.get_by_test_id("improve")).to_be_disabled()
    expect(page.get_by_test_id("history")).to_contain_text(served.assistant)


def test_improve_counts_the_pairs_it_would_take(page: Page, served: Served) -> None:
    model = registry.model(served.store, served.assistant)
    for number in range(8):  # asked for by another name: they teach all the same
        record(served.store, f"bt-{number}", f"Question {number}?", "Yes.", "No.", model=model.name,
               digest=model.digest, alias=model.name)
        choose(served.store, f"bt-{number}.0", f"bt-{number}.1")
    choose(served.store, "bt-0.0", "bt-0.1", rater="bob", consent=False)
    page.goto("/models/assistant")
    expect(page.get_by_test_id("count-choice")).to_have_text("0")
    expect(page.get_by_test_id("improve")).to_have_text("Improve from 8 pairs")
    expect(page.get_by_test_id("improve")).to_be_enabled()


def test_prompts_are_saved_compared_filled_and_deleted(page: Page, served: Served) -> None:
    page.goto("/prompts")
    page.get_by_test_id("new-prompt").click()
    page.get_by_test_id("prompt-name").fill("refund / broken")
    page.get_by_test_id("prompt-body").fill("I am {{name}}.\nThe {{thing}} is broken.")
    page.get_by_test_id("prompt-system").fill("Be kind.")
    page.get_by_test_id("prompt-save").click()
    page.get_by_test_id("new-version").click()
    page.get_by_test_id("prompt-body").fill("I am {{name}}.\nMy {{thing}} is broken.")
    page.get_by_test_id("prompt-note").fill("whose it is")
    page.get_by_test_id("prompt-save").click()
    expect(page.get_by_test_id("version")).to_have_text("version 2")
    expect(page.locator("[data-testid=diff] .removed")).to_have_text("The {{thing}} is broken.")
    expect(page.locator("[data-testid=diff] .added")).to_have_text("My {{thing}} is broken.")
    assert [version.note for version in prompts.versions(served.store, "refund / broken")] == ["whose it is", ""]
    page.get_by_test_id("use").click()
    page.get_by_test_id("variable-name").fill("Ana <b>")
    page.get_by_test_id("variable-thing").fill("{{name}}")
    page.get_by_test_id("fill").click()
    expect(page.get_by_test_id("message")).to_have_value("I am Ana <b>.\nMy {{name}} is broken.")
    expect(page.get_by_test_id("system")).to_have_value("Be kind.")
    page.get_by_test_id("message").fill("")
    page.keyboard.press("/")
    expect(page.get_by_test_id("pick")).to_have_count(1)
    page.goto("/prompts/refund%20%2F%20broken")
    page.get_by_test_id("delete-prompt").click()
    page.get_by_test_id("delete-confirm").click()
    page.wait_for_url("**/prompts")
    assert prompts.names(served.store) == []


def test_text_of_models_and_people_is_never_markup(page: Page) -> None:
    page.goto("/")
    body = "".join(f"data: {json.dumps(event)}\n\n" for event in (
        {"id": "bt-x", "choices": [{"index": 0, "delta": {"content": "<img src=x onerror=alert(1)> **b** `c`\n\n"}}]},
        {"id": "bt-x", "choices": [{"index": 0, "delta": {"content": "```py\nx = '<i>'\n```\n- one\n- two"}}]},
        {"id": "bt-x", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})) + "data: [DONE]\n\n"
    page.route("**/v1/chat/completions", lambda route: route.fulfill(content_type="text/event-stream", body=body))
    ask(page, "<script>alert(1)</script>")
    answer = answered(page).get_by_test_id("answer")
    expect(answer).to_contain_text("<img src=x onerror=alert(1)>")
    assert answer.locator("img, i, script").count() == 0
    expect(answer.locator("strong")).to_have_text("b")
    expect(answer.locator("pre")).to_have_text("x = '<i>'")
    expect(answer.locator("li")).to_have_text(["one", "two"])
    expect(page.get_by_test_id("said")).to_have_text("<script>alert(1)</script>")


def test_headers_caching_and_size(served: Served) -> None:
    with urllib.request.urlopen(served.url) as answer:
        html, headers = answer.read().decode(), answer.headers
    policy = headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert not re.search(r"\sstyle=|<style|<script(?![^>]*\ssrc=)|\son\w+=", html)
    addresses = re.findall(r'(?:href|src)="(/studio/static/[^"#]+)', html)
    assert addresses
    for address in addresses:
        with urllib.request.urlopen(served.url + address) as answer:
            assert "immutable" in answer.headers["cache-control"]
    assert sum(file.stat().st_size for file in ASSETS.iterdir()) <= 160_000


def test_text_can_be_read_in_both_themes() -> None:
    """WCAG AA asks for a contrast of 4.5 between text and what is behind it."""
    colours = dict(re.findall(r"--([\w-]+): light-dark\((#\w+, #\w+)\);", (ASSETS / "tokens.css").read_text()))

    def light(colour: str) -> float:
        parts = [int(colour[at:at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    grounds = ("paper", "surface", "sunken", "raised")
    pairs = [(text, ground) for text in ("ink", "muted", "accent") for ground in grounds]
    pairs += [(name, f"{name}-soft") for name in ("good", "bad", "warn")] + [("bad", ground) for ground in grounds]
    pairs += [("on-accent", "accent"), ("on-accent", "accent-strong"), ("accent-strong", "accent-soft")]
    pairs += [("ink", f"p{band}") for band in range(4)]
    for text, ground in pairs:
        for theme in (0, 1):
            lights = sorted(light(colours[name].split(", ")[theme]) for name in (text, ground))
            assert (lights[1] + 0.05) / (lights[0] + 0.05) >= 4.5, (text, ground, theme)


def test_an_unknown_page_is_a_page_and_an_unknown_route_an_error(chromium: Browser, served: Served) -> None:
    context = chromium.new_context(base_url=served.url)
    page = context.new_page()
    for path in ("/nowhere", "/models/nobody", "/inside/bt-nothing.0", "/prompts/none"):
        answer = page.goto(path)
        assert answer is not None
        assert answer.status == 404
        expect(page.get_by_test_id("failed")).to_be_visible()
    said = context.request.get("/studio/improvements/none")
    assert said.status == 404
    assert said.json()["error"]["message"]
    said = context.request.post("/studio/prompts", data={"name": "a"})
    assert said.status == 422
    assert "body" in said.json()["error"]["message"]
    said = context.request.post("/studio/prompts", data={"name": "a", "body": "b"}, headers={"Origin": "https://evil.example"})
    assert said.status == 403
    context.close()


def test_a_key_opens_the_door_and_scripts_cannot_read_it(chromium: Browser, small_workshop: SmallWorkshop,
                                                         tmp_path: Path) -> None:
    home = copy_workshop(small_workshop, tmp_path / "keyed")
    store = Store.open(home)
    _, secret = keys.create(store, "ana", actor="test")
    store.close()
    with serve(home, "--public-host", "127.0.0.1") as url:
        context = chromium.new_context(base_url=url)
        page = context.new_page()
        watch = Watch(page, url)
        page.goto("/models")
        page.wait_for_url("**/login")
        page.get_by_label("API key").fill(secret)
        page.keyboard.press("Enter")
        page.wait_for_url(f"{url}/")
        assert page.evaluate("document.cookie") == ""
        cookie = next(one for one in context.cookies() if one["name"] == "bottega_key")
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
        page.get_by_test_id("logout").click()
        page.wait_for_url("**/login")
        assert watch.problems == []
        page.get_by_label("API key").fill("btg-wrong")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("not known")
        context.close()
