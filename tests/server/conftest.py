"""One server for the tests that leave it as it is; tests that stop, crowd or lock one start their own."""

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import openai
import pytest

from tests.server.running import Running, serving
from tests.workshops import SmallWorkshop, copy_workshop

Serve = Callable[..., AbstractContextManager[Running]]


@pytest.fixture(scope="session")
def server(small_workshop: SmallWorkshop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(copy_workshop(small_workshop, tmp_path_factory.mktemp("server") / "workshop",
                              pictures=True)) as running:
        yield running


@pytest.fixture(scope="session")
def client(server: Running) -> openai.OpenAI:
    return server.client()


@pytest.fixture
def fresh_home(small_workshop: SmallWorkshop, tmp_path: Path) -> Path:
    return copy_workshop(small_workshop, tmp_path / "served", pictures=True)


@pytest.fixture
def serve(fresh_home: Path) -> Serve:
    """Start a server of one's own with options."""
    return functools.partial(serving, fresh_home)
