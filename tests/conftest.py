"""Shared by all tests: threads are capped (two-core machines), real data is found through BOTTEGA_DATA."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from bottega.core.progress import set_quiet
from tests.workshops import small_workshop  # noqa: F401  (a fixture)

# No test depends on how busy the machine is; a merge is judged on the same examples each time, people get new ones.
hypothesis.settings.register_profile("ours", deadline=None, derandomize=bool(os.environ.get("CI")))
hypothesis.settings.load_profile("ours")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets; skips where it is absent."""
    folder = Path(os.environ.get("BOTTEGA_DATA", "../shared/data"))
    if not folder.is_dir():
        pytest.skip("no real data here: set BOTTEGA_DATA to a folder with the development data sets")
    return folder


@pytest.fixture(autouse=True)
def nobody_is_quiet() -> Iterator[None]:
    """A test that silences progress does not silence the tests after it."""
    yield
    set_quiet(False)


@pytest.fixture(autouse=True)
def own_workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Each test gets a workshop of its own."""
    home = tmp_path / "workshop"
    monkeypatch.setenv("BOTTEGA_HOME", str(home))
    return home
