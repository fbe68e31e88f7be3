"""A real server process and a real Chromium for the tests of the studio; skipped with a reason when absent.

With BOTTEGA_REQUIRE_BROWSER set they fail instead: where a browser is known to be, no test may go missing.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bottega.workshop.store import Store
from tests.workshops import SmallWorkshop, copy_workshop

REQUIRED = bool(os.environ.get("BOTTEGA_REQUIRE_BROWSER"))
if REQUIRED:
    import playwright.sync_api as playwright
else:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync",
         "--no-first-run", "--disable-default-apps"]


@dataclass
class Served:
    """A running server: its address, its workshop, and the store as another process sees it."""

    url: str
    home: Path
    store: Store
    lm: str
    assistant: str
    pictures: str
    digits: str


@contextlib.contextmanager
def serve(home: Path, *options: str) -> Iterator[str]:
    """Run `bottega serve` on a free port and yield its address; stop it in the end as a user would."""
    environment = {**os.environ, "BOTTEGA_HOME": str(home), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-m", "bottega", "serve", "--port", "0", "--json", *options],
                               env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    said: list[str] = []
    reader = threading.Thread(target=lambda: said.extend(process.stderr or ()), daemon=True)
    reader.start()
    try:
        line = process.stdout.readline()
        assert line, f"the server did not start: {''.join(said)[-2000:]}"
        yield json.loads(line)["url"]
    finally:
        process.terminate()
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            process.kill()
            raise


@pytest.fixture(scope="module")
def served(small_workshop: SmallWorkshop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server over a copy of the small workshop, one for each test file."""
    home = copy_workshop(small_workshop, tmp_path_factory.mktemp("studio") / "workshop", pictures=True)
    with serve(home) as url:
        store = Store.open(home)
        yield Served(url, home, store, small_workshop.lm, small_workshop.assistant, small_workshop.pictures,
                     small_workshop.digits)
        store.close()


@pytest.fixture(scope="module")  # while it runs, this thread has an event loop that other tests would stumble over
def chromium() -> Iterator["playwright.Browser"]:
    """The browser."""
    if CHROMIUM is None:
        (pytest.fail if REQUIRED else pytest.skip)("no Chromium on this machine: apt-get install chromium")
    with playwright.sync_playwright() as started:
        playwright.expect.set_options(timeout=20_000)  # the first answer waits for its model to be loaded
        browser = started.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


class Watch:
    """What must not happen on a page: requests to others, messages of the console, broken rules of the CSP."""

    def __init__(self, page: "playwright.Page", origin: str) -> None:
        self.problems: list[str] = []
        page.on("request", lambda request: self._seen(request.url, origin))
        page.on("console", lambda message: self._said(message))
        page.on("pageerror", lambda error: self.problems.append(f"exception: {error}"))
        page.add_init_script("document.addEventListener('securitypolicyviolation', event => "
                             "console.error('CSP: ' + event.violatedDirective + ' ' + event.blockedURI))")

    def _seen(self, url: str, origin: str) -> None:
        if not url.startswith(f"{origin}/"):
            self.problems.append(f"request to {url}")

    def _said(self, message: "playwright.ConsoleMessage") -> None:
        if message.type in ("error", "warning"):
            self.problems.append(f"console: {message.text}")


@pytest.fixture
def page(chromium: "playwright.Browser", served: Served) -> Iterator["playwright.Page"]:
    """A page of a new visitor, watched from the first to the last moment."""
    context = chromium.new_context(base_url=served.url, viewport={"width": 1360, "height": 860})
    page = context.new_page()
    page.set_default_timeout(20_000)
    watch = Watch(page, served.url)
    yield page
    context.close()
    assert watch.problems == []
