"""Shared by the data tests: a workshop and a short way to prepare."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bottega.core.recipe import DataSpec
from bottega.data.dataset import Dataset
from bottega.data.pipeline import prepare


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "workshop"


@pytest.fixture
def make(home: Path) -> Callable[..., Dataset]:
    """Prepare sources with settings of a DataSpec, in one process unless said otherwise."""

    def run(*sources: Path | str, jobs: int = 1, at: Path | None = None, **settings: Any) -> Dataset:
        spec = DataSpec(sources=[str(source) for source in sources], **settings)
        return prepare(spec, home=at or home, jobs=jobs)

    return run
