"""Pages of the studio show whatever people and programs wrote: one odd letter never hides the rest."""

import json
from pathlib import Path

from fastapi.testclient import TestClient

from bottega.server.app import create_app
from bottega.studio.app import add_studio
from bottega.workshop.workshop import Workshop
from tests.workshop.rated import record

HALF = "cut \ud83d off"  # JSON can write half of a pair, UTF-8 cannot


def test_half_a_character_breaks_no_page(tmp_path: Path) -> None:
    workshop = Workshop.open(tmp_path)
    record(workshop.store, "bt-a", HALF, "An answer.")
    app = create_app(workshop, keys_required=False, allowed_hosts=["*"])
    add_studio(app, workshop)
    with TestClient(app) as client:
        said = client.post("/v1/feedback", headers={"content-type": "application/json"}, content=json.dumps(
            {"kind": "comment", "output": "bt-a.0", "text": HALF, "aspect": HALF}))
        assert said.status_code == 200
        listed, one = client.get("/inside"), client.get("/inside/bt-a.0")
        odd = client.post("/studio/graphs/drawings", headers={"content-type": "application/json"}, content=json.dumps(
            {"model": HALF, "graphs": []}))
    assert [each.status_code for each in (listed, one, odd)] == [200, 200, 404]
    assert "cut ? off" in listed.text
    assert one.text.count("cut ? off") == 3, "asked, what the critique is about, its words"
    assert HALF in odd.json()["error"]["message"]
