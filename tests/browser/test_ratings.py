"""Scores and critiques by a real browser: given with mouse and keyboard, kept as rows, seen by stats and export."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import Locator, Page, expect

from bottega.workshop import feedback, works
from tests.browser.conftest import Served
from tests.browser.studio import answered, ask, compare, draw, ids, open_pictures, set_control


def cli(home: Path, *arguments: str) -> dict[str, Any]:
    """Run `bottega feedback` as another process and return what it says."""
    done = subprocess.run([sys.executable, "-m", "bottega", "feedback", *arguments, "--json"], check=False, text=True,
                          env={**os.environ, "BOTTEGA_HOME": str(home)}, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def stands(served: Served, output: str) -> list[tuple[Any, ...]]:
    """Return what stands about an output: kind, score, scale, aspect, text, span."""
    rows = [row for row in feedback.listed(served.store, output=output) if row["replaced_by"] is None]
    assert all(row["rater"] == "local" and row["consent"] for row in rows)
    return sorted(((row["kind"], row["score"], row["scale"], row["aspect"], row["text"], row["span"]) for row in rows),
                  key=repr)


def score(form: Locator, aspect: str, value: int) -> None:
    """Choose a score with the mouse."""
    form.locator(f'[data-aspect="{aspect}"]').get_by_text(str(value), exact=True).click()


def test_scores_and_a_critique_of_a_marked_part_by_keyboard(page: Page, served: Served, tmp_path: Path) -> None:
    page.goto("/")
    ask(page)
    answer = answered(page)
    output = answer.get_attribute("data-id") or ""
    answer.get_by_test_id("rate").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Space")       # the first of the row "as a whole": 1
    page.keyboard.press("ArrowRight")  # 2
    page.keyboard.press("Tab")         # the row "correct"
    page.keyboard.press("Space")
    for _ in range(3):
        page.keyboard.press("ArrowRight")  # 4
    for _ in range(4):  # past complete, clear and tone, to the words of the answer
        page.keyboard.press("Tab")
    expect(answer.get_by_test_id("mark")).to_be_focused()
    before = answer.get_by_test_id("mark").input_value()
    page.keyboard.type("x")  # is not let in
    page.keyboard.press("Backspace")
    assert answer.get_by_test_id("mark").input_value() == before
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    for _ in range(5):
        page.keyboard.press("Shift+ArrowRight")
    work, kept = works.output(served.store, output)
    assert kept.text is not None
    assert len(kept.text) > 8
    expect(answer.get_by_test_id("marked")).to_contain_text(kept.text[3:8].strip())
    page.keyboard.press("Tab")
    page.keyboard.press("t")  # the aspect "tone"
    page.keyboard.press("Tab")
    page.keyboard.type("Too curt.")
    page.keyboard.press("Tab")  # Cancel
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(answer.get_by_test_id("rating")).to_be_hidden()
    expect(answer.get_by_test_id("rate")).to_be_focused()
    assert stands(served, output) == sorted([
        ("score", 2, [1, 5], None, None, None), ("score", 4, [1, 5], "correct", None, None),
        ("comment", None, None, "tone", "Too curt.", [3, 8])], key=repr)
    row = feedback.listed(served.store, output=output)[0]
    assert (row["alias"] or row["model"], row["model_digest"]) == (work.alias or work.model, work.model_digest)

    page.reload()  # the score is shown, and a newer one takes its place
    expect(page.get_by_test_id("rate")).to_have_text("2")
    page.get_by_test_id("rate").click()
    form = page.get_by_test_id("rating")
    expect(form.locator('[data-aspect="correct"] input:checked')).to_have_value("4")
    page.keyboard.press("ArrowLeft")
    form.get_by_test_id("rating-send").click()
    expect(form).to_be_hidden()
    assert [row[1] for row in stands(served, output) if row[0] == "score"] == [1, 4]

    ask(page, "And what about the lamp?")
    good = answered(page)
    good.get_by_test_id("rate").click()
    score(good, "", 5)
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("rating")).to_be_hidden()
    said = cli(served.home, "stats")
    assert (said["all"]["score"], said["all"]["comment"]) == (3, 1)
    made = cli(served.home, "export", "--what", "thumbs", "-o", str(tmp_path / "set"))
    rows = [json.loads(line) for file in sorted((tmp_path / "set").glob("*.jsonl")) if file.name != "judgements.jsonl"
            for line in file.read_text().splitlines()]
    assert made["training"] + made["held_out"] == 2
    assert {(row["answer"], row["desirable"]) for row in rows} == {
        (kept.text, False), (works.output(served.store, good.get_attribute("data-id") or "")[1].text, True)}


def test_a_marked_part_needs_words_and_counts_characters(page: Page, served: Served) -> None:
    page.goto("/")
    page.locator("summary").click()
    text = "🎨 r\u00e9d\n\n👩‍🎨 blue"
    page.get_by_test_id("control-schema").fill(json.dumps({"type": "object", "properties": {"a": {"const": text}},
                                                           "required": ["a"], "additionalProperties": False}))
    ask(page, "Which colours?")
    answer = answered(page)
    _, kept = works.output(served.store, answer.get_attribute("data-id") or "")
    assert kept.text is not None
    assert "🎨" in kept.text
    answer.get_by_test_id("rate").click()
    mark = answer.get_by_test_id("mark")
    mark.evaluate("""field => { const at = field.value.indexOf("blue"); field.focus();
                                field.setSelectionRange(at, at + 4); }""")
    expect(answer.get_by_test_id("marked")).to_have_text("Marked: “blue”")
    answer.get_by_test_id("rating-send").click()
    expect(answer.get_by_test_id("critique")).to_have_js_property("validity.valueMissing", True)
    expect(answer.get_by_test_id("rating")).to_be_visible()
    answer.get_by_test_id("critique").fill("It is green.")
    answer.get_by_test_id("rating-send").dblclick()  # is one critique
    expect(answer.get_by_test_id("rating")).to_be_hidden()
    (row,) = stands(served, kept.id)
    assert kept.text[slice(*row[-1])] == "blue"
    answer.get_by_test_id("inside-link").click()
    expect(page.get_by_test_id("said")).to_contain_text("blue")
    expect(page.get_by_test_id("said")).to_contain_text("It is green.")


def test_two_answers_are_rated_while_they_are_blind(page: Page, served: Served) -> None:
    page.goto("/")
    page.get_by_test_id("compare").click()
    page.get_by_test_id("side-b").click()
    set_control(page, "temperature", "1.7")
    compare(page)
    pair = page.get_by_test_id("pair")
    outputs = [page.get_by_test_id("assistant").nth(place).get_attribute("data-id") or "" for place in (0, 1)]
    for place, value in ((0, 4), (1, 2)):
        card = page.get_by_test_id("pair-" + "ab"[place])
        card.get_by_test_id("rate").click()
        score(card, "", value)
        card.get_by_test_id("rating-send").click()
        expect(card.get_by_test_id("rate")).to_have_text(f"Rated {value} of 5")
    assert "temperature" not in pair.inner_text()
    expect(page.get_by_test_id("judge-a")).to_be_enabled()
    assert [stands(served, output) for output in outputs] == [
        [("score", value, [1, 5], None, None, None)] for value in (4, 2)]
    page.get_by_test_id("judge-a").click()
    expect(page.get_by_test_id("judged")).to_be_visible()
    assert {row[0] for row in stands(served, outputs[0])} == {"score", "choice"}


def test_pictures_are_rated_and_the_page_remembers(page: Page, served: Served) -> None:
    open_pictures(page, served.pictures)
    set_control(page, "n", "2")
    pictures = draw(page)
    made = ids(pictures)
    pictures.get_by_test_id("rate").nth(1).click()
    form = pictures.get_by_test_id("rating")
    expect(form.get_by_test_id("mark")).to_have_count(0)
    score(form, "", 4)
    score(form, "beauty", 3)
    form.get_by_test_id("critique").fill("No circle.")
    form.get_by_test_id("rating-send").click()
    expect(form).to_be_hidden()
    expect(pictures.get_by_test_id("rate").nth(1)).to_be_focused()
    assert stands(served, made[1]) == sorted([
        ("score", 4, [1, 5], None, None, None), ("score", 3, [1, 5], "beauty", None, None),
        ("comment", None, None, None, "No circle.", None)], key=repr)
    page.reload()
    again = page.get_by_test_id("set").last.get_by_test_id("rate")
    expect(again).to_have_text(["", "4"])
    again.nth(1).click()
    page.keyboard.press("Escape")
    expect(page.get_by_test_id("rating")).to_have_count(0)
    expect(page.get_by_test_id("set").last.get_by_test_id("rate").nth(1)).to_be_focused()
