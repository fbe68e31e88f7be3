"""What a client with a key is told while the workshop's store cannot be used."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from bottega.core.errors import BottegaError, BusyError, InputError, ResourceError
from bottega.server.app import create_app
from bottega.workshop import keys
from bottega.workshop.workshop import Workshop


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Workshop]:
    opened = Workshop.open(tmp_path / "home", scan=False)
    yield opened
    opened.store.close()


@pytest.mark.parametrize(("error", "status"), [
    (BusyError("another program keeps the database busy", retry_after=1), 429),
    (InputError("the database /home/secret.db cannot be written"), 503),
    (ResourceError("the disk is full while writing the database /home/secret.db"), 503),
])
def test_a_store_that_fails(workshop: Workshop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
                            error: BottegaError, status: int) -> None:
    def fail(*_: object) -> None:
        raise error

    _, secret = keys.create(workshop.store, "team", actor="cli")
    client = TestClient(create_app(workshop, keys_required=True, allowed_hosts=["*"]))
    headers = {"authorization": f"Bearer {secret}"}
    assert client.get("/v1/models", headers=headers).status_code == 200
    monkeypatch.setattr(keys, "check", fail)
    with caplog.at_level(logging.ERROR):
        answer = client.get("/v1/models", headers=headers)
    assert answer.status_code == status
    assert int(answer.headers["retry-after"]) >= 1
    assert "secret.db" not in answer.text
    assert str(error) in caplog.text


def test_a_closed_store(workshop: Workshop) -> None:
    client = TestClient(create_app(workshop, keys_required=True, allowed_hosts=["*"]))
    workshop.store.close()
    answer = client.get("/v1/models", headers={"authorization": "Bearer btg-any"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
