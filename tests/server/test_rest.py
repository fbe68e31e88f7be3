"""Models, embeddings, moderations, feedback, health and figures."""

import base64
import struct
from typing import Any

import openai
import pytest

from tests.server.running import Running
from tests.workshops import SmallWorkshop


def test_models(client: openai.OpenAI, server: Running, small_workshop: SmallWorkshop) -> None:
    found: list[Any] = list(client.models.list())
    assert [model.id for model in found] == server.models
    assert found[0].id == "assistant"
    assert found[0].alias
    assert {small_workshop.lm, small_workshop.assistant} <= {model.id for model in found}
    one: Any = client.models.retrieve(small_workshop.lm)
    assert one.owned_by == "bottega"
    assert not one.answers
    assert len(one.digest) == 64
    assert one.context > 0


def test_embeddings(client: openai.OpenAI, small_workshop: SmallWorkshop) -> None:
    texts = ["a kettle", "a list of numbers"]
    packed: Any = client.embeddings.create(model=small_workshop.lm, input=texts)  # the client asks for base64
    plain: Any = client.embeddings.create(model=small_workshop.lm, input=texts, encoding_format="float")
    assert [row.index for row in packed.data] == [0, 1]
    for one, other in zip(packed.data, plain.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, rel=1e-6)
    assert packed.data[0].embedding != packed.data[1].embedding
    assert plain.usage.prompt_tokens == plain.usage.total_tokens > 0
    assert plain.bottega["kind"] == "mean-pooled hidden states"
    single: Any = client.embeddings.create(model=small_workshop.lm, input=texts[0], encoding_format="float")
    assert single.data[0].embedding == pytest.approx(plain.data[0].embedding, rel=1e-4, abs=1e-6)


def test_embeddings_in_base64_are_little_endian_floats(server: Running, small_workshop: SmallWorkshop) -> None:
    body = {"model": small_workshop.lm, "input": "a kettle"}
    plain = server.post("/v1/embeddings", body).json()["data"][0]["embedding"]
    packed = server.post("/v1/embeddings", {**body, "encoding_format": "base64"}).json()["data"][0]["embedding"]
    assert list(struct.unpack(f"<{len(plain)}f", base64.b64decode(packed))) == pytest.approx(plain, rel=1e-6)


def test_moderations(client: openai.OpenAI, server: Running) -> None:
    found: Any = client.moderations.create(input=["My card is 4111 1111 1111 1111.", "Good morning."])
    assert [result.flagged for result in found.results] == [True, False]
    raw = server.post("/v1/moderations", {"input": "My card is 4111 1111 1111 1111."}).json()["results"][0]
    assert raw["categories"]["card"] is True
    assert raw["category_scores"]["card"] == 1.0
    assert "4111" not in str(raw)
    assert set(raw["categories"]) == set(raw["category_scores"]) == set(raw["category_applied_input_types"])


def make(server: Running, **options: Any) -> list[str]:
    body = {"messages": [{"role": "user", "content": "Where is my order?"}], "max_tokens": 8, "n": 2, **options}
    outputs: list[str] = server.post("/v1/chat/completions", body).json()["bottega"]["outputs"]
    return outputs


def test_feedback_is_kept_and_listed(server: Running) -> None:
    good, bad = make(server)
    before = server.figure("bottega_feedback_total")
    one = server.post("/v1/feedback", {"kind": "choice", "output": good, "rejected": bad}).json()["id"]
    several = server.post("/v1/feedback", [{"kind": "thumb", "output": good, "value": 1},
                                           {"kind": "comment", "output": bad, "text": "Rude."}]).json()["ids"]
    listed = {row["id"]: row for row in server.get("/v1/feedback", params={"limit": 1000}).json()["data"]}
    assert {one, *several} <= set(listed)
    assert listed[one]["rejected"] == bad
    assert listed[one]["rater"] == "local"
    comments = server.get("/v1/feedback", params={"kind": "comment", "output": bad}).json()["data"]
    assert [row["id"] for row in comments] == several[1:]
    assert server.figure("bottega_feedback_total") == before + 3


def test_feedback_that_cannot_be_kept(server: Running) -> None:
    good, _ = make(server)
    cases: list[tuple[Any, int, str]] = [
        ({"kind": "thumb", "output": "bt-nothing.0", "value": 1}, 404, "bt-nothing.0"),
        ({"kind": "thumb", "output": good, "value": 5}, 400, "1 or -1"),
        ({"kind": "choice", "output": good, "rejected": good}, 400, "twice"),
        ({"kind": "shrug", "output": good}, 400, "kind"),
        ({"kind": "thumb", "output": good, "value": 1, "mood": "x"}, 400, "mood"),
        ([], 400, ""),
    ]
    for body, status, words in cases:
        answer = server.post("/v1/feedback", body)
        assert answer.status_code == status, answer.text
        assert words in answer.json()["error"]["message"]
    partly = server.post("/v1/feedback", [{"kind": "thumb", "output": good, "value": 1},
                                          {"kind": "thumb", "output": "bt-nothing.0", "value": 1}])
    assert partly.status_code == 404
    assert len(partly.json()["ids"]) == 1
    assert server.get("/v1/feedback", params={"limit": 0}).status_code == 400


def test_health_and_figures(server: Running, small_workshop: SmallWorkshop) -> None:
    make(server)
    health = server.get("/healthz").json()
    assert health["status"] == "ok"
    assert small_workshop.assistant in health["models"]
    before = server.figure("bottega_tokens_total", direction="out")
    make(server)
    assert 0 < server.figure("bottega_tokens_total", direction="out") - before <= 16
    assert server.figure("bottega_requests_total", route="/v1/chat/completions", status="200") >= 2
    assert server.figure("bottega_first_token_seconds_count") >= 2
    assert server.figure("bottega_queue_length") == 0
