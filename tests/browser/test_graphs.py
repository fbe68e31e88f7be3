"""Graphs in Create by a real browser: made, drawn, saved, looked into, refused; odd names stay text."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from bottega.core.smiles import read_smiles
from bottega.workshop import settings, works
from bottega.workshop.store import Store
from tests.browser.conftest import Watch, serve
from tests.graph_models import MOLECULES, NAME, make_graph_model


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("graphs") / "workshop"
    make_graph_model(home)
    make_graph_model(home, MOLECULES)
    return home


@pytest.fixture(scope="module")
def url(home: Path) -> Iterator[str]:
    with serve(home) as url:
        yield url


@pytest.fixture
def store(home: Path) -> Iterator[Store]:
    store = Store.open(home)
    yield store
    store.close()


@pytest.fixture(params=[("light", 1360), ("dark", 390)])
def sheet(request: pytest.FixtureRequest, chromium: Browser, url: str) -> Iterator[Page]:
    scheme, width = request.param
    context = chromium.new_context(base_url=url, color_scheme=scheme, viewport={"width": width, "height": 860})
    page = context.new_page()
    page.set_default_timeout(20_000)
    watch = Watch(page, url)
    page.goto("/graphs")
    expect(page.get_by_test_id("make")).to_be_enabled()
    yield page
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    context.close()
    assert watch.problems == []


def test_molecules_by_keyboard_are_drawn_with_their_smiles(sheet: Page, store: Store) -> None:
    sheet.get_by_test_id("model").select_option(MOLECULES)
    expect(sheet.get_by_test_id("about")).to_contain_text("molecule")
    sheet.get_by_test_id("rows").fill("30")
    sheet.get_by_test_id("seed").fill("3")
    sheet.keyboard.press("Enter")
    expect(sheet.get_by_test_id("status")).to_contain_text("30 graphs")
    figures = sheet.get_by_test_id("drawing")
    expect(figures).to_have_count(24)
    work = works.works(store, limit=1)[0]
    assert (work.door, work.seed, work.request["controls"]["rows"]) == ("studio", 3, 30)
    lines = (work.outputs[0].text or "").splitlines()
    for place in (0, 7, 23):
        expect(figures.nth(place)).to_contain_text(lines[place])
        graph = read_smiles(lines[place]).graph
        assert figures.nth(place).locator("circle").count() == len(graph)
        assert figures.nth(place).locator("line").count() == len(graph.edges)
    with sheet.expect_download() as download:
        sheet.get_by_test_id("save").click()
    assert download.value.suggested_filename.endswith(".smi")
    assert Path(download.value.path()).read_text() == work.outputs[0].text
    sheet.get_by_test_id("inside-link").click()
    drawn = sheet.get_by_test_id("drawings").locator("figure")
    expect(drawn).to_have_count(24)
    expect(drawn.nth(7).locator("circle")).to_have_count(len(read_smiles(lines[7]).graph))
    expect(sheet.get_by_test_id("facts")).to_contain_text("30")


def test_a_number_of_nodes_is_kept_or_refused(sheet: Page) -> None:
    sheet.get_by_test_id("model").select_option(NAME)
    expect(sheet.get_by_test_id("about")).to_contain_text("tree")
    sheet.get_by_test_id("rows").fill("5")
    sheet.get_by_test_id("nodes").fill("7")
    sheet.get_by_test_id("make").click()
    figures = sheet.get_by_test_id("drawing")
    expect(figures).to_have_count(5)
    expect(figures.first).to_contain_text("7 nodes, 6 edges")  # a tree
    expect(figures.first.locator("line")).to_have_count(6)
    sheet.goto("/models")
    expect(sheet.get_by_test_id("bundles")).to_contain_text("makes graphs")
    sheet.goto(f"/models/{NAME}")
    sheet.get_by_test_id("try").click()
    expect(sheet.get_by_test_id("make")).to_be_enabled()
    expect(sheet.get_by_test_id("model")).to_have_value(NAME)
    sheet.goto("/inside")
    expect(sheet.get_by_test_id("works")).to_contain_text("5 graphs")


def test_what_is_not_kept_is_made_again_for_the_file(chromium: Browser, url: str, store: Store) -> None:
    settings.put(store, "retention_days", 0, actor="test")
    context = chromium.new_context(base_url=url)  # unwatched: that nothing is kept is a 404, which the console tells
    page = context.new_page()
    try:
        page.goto("/graphs")
        page.get_by_test_id("model").select_option(NAME)
        expect(page.get_by_test_id("about")).to_contain_text("tree")
        page.get_by_test_id("rows").fill("4")
        page.get_by_test_id("make").click()
        figures = page.get_by_test_id("drawing")
        expect(figures).to_have_count(4)
        with page.expect_download() as download:
            page.get_by_test_id("save").click()
        made = [json.loads(line) for line in Path(download.value.path()).read_text().splitlines()]
        shown = [figures.nth(place).locator("line").count() for place in range(4)]
        assert [len(graph["edges"]) for graph in made] == shown
        page.get_by_test_id("inside-link").click()
        expect(page.get_by_text("The graphs are not kept")).to_be_visible()
    finally:
        settings.put(store, "retention_days", -1, actor="test")
        context.close()


def test_errors_are_told_in_words(chromium: Browser, url: str) -> None:
    context = chromium.new_context(base_url=url)  # unwatched: the browser itself tells the console of failures
    page = context.new_page()
    page.goto("/graphs")
    page.get_by_test_id("model").select_option(NAME)
    expect(page.get_by_test_id("about")).to_contain_text("tree")
    page.get_by_test_id("nodes").evaluate("field => { field.max = 999; }")  # past the page's own check
    page.get_by_test_id("nodes").fill("200")
    page.get_by_test_id("make").click()
    expect(page.get_by_test_id("error")).to_contain_text("nodes is 200")
    for graphs in ([{"nodes": ["no such"], "edges": []}], [{"nodes": []}], [{}] * 25):
        answer = page.request.post("/studio/graphs/drawings", data={"model": NAME, "graphs": graphs})
        assert answer.status in (400, 422), answer.text()
    context.close()
