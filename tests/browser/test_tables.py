"""Tables in Create by a real browser: conditions, rows, files, looked into; data never becomes HTML."""

import io
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from playwright.sync_api import Browser, Page, expect

from bottega.workshop import works
from bottega.workshop.store import Store
from tests.browser.conftest import Watch, serve
from tests.table_models import EVIL, NAME, make_table_model


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("tables") / "workshop"
    make_table_model(home)
    return home


@pytest.fixture(scope="module")
def url(home: Path) -> Iterator[str]:
    with serve(home) as url:
        yield url


@pytest.fixture(params=[("light", 1360), ("dark", 390)])
def sheet(request: pytest.FixtureRequest, chromium: Browser, url: str) -> Iterator[Page]:
    scheme, width = request.param
    context = chromium.new_context(base_url=url, color_scheme=scheme, viewport={"width": width, "height": 860})
    page = context.new_page()
    watch = Watch(page, url)
    page.goto("/tables")
    expect(page.get_by_test_id("make")).to_be_enabled()
    yield page
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    context.close()
    assert watch.problems == []


def test_conditions_by_keyboard_rows_files_and_inside(sheet: Page, home: Path) -> None:
    sheet.get_by_test_id("rows").fill("300")
    sheet.get_by_test_id("seed").fill("5")
    sheet.get_by_test_id("add").focus()
    sheet.keyboard.press("Enter")
    expect(sheet.get_by_test_id("column").first).to_be_focused()
    sheet.get_by_test_id("value").first.fill("60")
    sheet.get_by_test_id("add").click()
    second = sheet.get_by_test_id("condition").nth(1)
    second.get_by_test_id("column").select_option("city")
    second.get_by_test_id("sign").select_option("in")
    second.get_by_test_id("value").select_option(["Bari, old town", EVIL])
    sheet.get_by_test_id("rows").press("Enter")
    expect(sheet.get_by_test_id("status")).to_contain_text("300 rows", timeout=20_000)
    expect(sheet.get_by_test_id("preview").locator("tbody tr")).to_have_count(100)
    assert sheet.locator("img[src=x]").count() == 0
    expect(sheet.get_by_test_id("preview")).to_contain_text(EVIL)
    with sheet.expect_download() as download:
        sheet.get_by_test_id("save-parquet").click()
    content = Path(download.value.path()).read_bytes()
    rows = pq.read_table(io.BytesIO(content)).to_pylist()
    assert all(row["age"] >= 60 and row["city"] in ("Bari, old town", EVIL) for row in rows)
    with sheet.expect_download() as download:
        sheet.get_by_test_id("save-csv").click()
    assert Path(download.value.path()).read_text().count("\n") == 301
    sheet.get_by_test_id("inside-link").click()
    expect(sheet.get_by_test_id("rows").locator("tbody tr")).to_have_count(50)
    expect(sheet.get_by_test_id("conditions")).to_contain_text("`age` >= 60")
    assert sheet.locator("img[src=x]").count() == 0
    store = Store.open(home)
    work = works.works(store, limit=1)[0]
    assert (work.door, works.file(store, work.outputs[0].id)[1]) == ("studio", content)
    store.close()


def test_balance_and_what_cannot_be(sheet: Page) -> None:
    sheet.get_by_test_id("rows").fill("30")
    sheet.get_by_test_id("balance").select_option("city")
    expect(sheet.get_by_test_id("share")).to_have_count(3)
    sheet.get_by_test_id("make").click()
    expect(sheet.get_by_test_id("status")).to_contain_text("30 rows", timeout=20_000)
    assert sheet.get_by_test_id("preview").locator("tbody td:nth-child(2)").all_inner_texts().count("Rome") == 10
    sheet.goto(f"/models/{NAME}")
    sheet.get_by_test_id("try").click()
    expect(sheet.get_by_test_id("make")).to_be_enabled()
    sheet.goto("/inside")
    expect(sheet.get_by_test_id("works")).to_contain_text("30 rows")
