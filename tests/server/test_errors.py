"""What clients are told when something is wrong: the status, the field, and what to do."""

import contextlib
import socket
from typing import Any

import httpx
import openai
import pytest

from tests.server.running import Running
from tests.workshops import SmallWorkshop

QUESTION = [{"role": "user", "content": "Hello"}]


def refused(server: Running, body: Any, path: str = "/v1/chat/completions", status: int = 400) -> dict[str, Any]:
    answer = server.post(path, body)
    assert answer.status_code == status, answer.text
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert answer.headers["x-request-id"].startswith("req_")
    return dict(answer.json()["error"])


def test_unknown_model(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="asistant", messages=QUESTION)  # type: ignore[arg-type]
    assert caught.value.code == "model_not_found"
    assert caught.value.param == "model"
    assert "did you mean 'assistant'" in caught.value.message
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nobody")
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model="nobody", input="x")


@pytest.mark.parametrize(("field", "value"), [
    ("temperature", -1), ("temperature", 99), ("top_p", 0), ("top_p", 1.5), ("n", 0), ("n", 1000), ("max_tokens", 0),
    ("max_completion_tokens", -2), ("seed", -1), ("presence_penalty", 50), ("frequency_penalty", -50), ("min_p", 2),
    ("repetition_penalty", 0), ("top_k", -1), ("stop", [""]), ("best_of", 0), ("top_logprobs", 21),
    ("temperature", "hot"), ("max_tokens", 3.5), ("max_tokens", True), ("n", "2"), ("stream", "yes"),
    ("logit_bias", [1]), ("messages", []), ("messages", "hi"), ("stop", ["x"] * 17), ("response_format", {"type": "x"}),
    ("logprobs", 3), ("model", 3), ("bottega", {"alternatives": 99}), ("stream_options", {"include_usage": True}),
])
def test_bad_values_name_the_field(server: Running, field: str, value: Any) -> None:
    error = refused(server, {"messages": QUESTION, field: value})
    assert error["type"] == "invalid_request_error"
    assert (error["param"] or "").startswith(field)
    assert field in error["message"]


@pytest.mark.parametrize(("body", "param"), [
    ({"messages": [{"role": "king", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
     "messages[0].content"),
    ({"messages": [*QUESTION, {"role": "assistant", "content": "", "tool_calls": [{"id": "1"}]}]},
     "messages[1].tool_calls[0].function"),
    ({"messages": [{"role": "user", "content": "x", "tool_calls": [{"id": "1"}]}]}, "messages[0].tool_calls"),
    ({"messages": QUESTION, "response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
     "response_format.json_schema.schema"),
    ({"messages": QUESTION, "response_format": {"type": "regex", "regex": "("}}, "response_format"),
    ({"messages": QUESTION, "top_logprobs": 2}, "top_logprobs"),
    ({"messages": QUESTION, "max_tokens": 2, "max_completion_tokens": 2}, "max_tokens"),
    ({"messages": QUESTION, "n": 3, "best_of": 2}, "best_of"),
    ({}, "messages"),
])
def test_places_are_told(server: Running, body: dict[str, Any], param: str) -> None:
    assert refused(server, body)["param"] == param


def test_fields_that_are_unknown_or_not_supported(server: Running) -> None:
    error = refused(server, {"messages": QUESTION, "temprature": 1})
    assert error["param"] == "temprature"
    assert "did you mean 'temperature'" in error["message"]
    error = refused(server, {"messages": QUESTION, "tools": [{"type": "function"}]})
    assert error["param"] == "tools"
    assert "tools[0].function" in error["message"]
    harmless = {"tools": [], "tool_choice": "auto", "store": False, "service_tier": "auto", "user": "me", "audio": None}
    assert server.post("/v1/chat/completions", {"messages": QUESTION, "max_tokens": 1, **harmless}).status_code == 200
    assert refused(server, {"prompt": "x", "echo": True}, "/v1/completions")["param"] == "echo"
    assert refused(server, {"input": "x", "dimensions": 3}, "/v1/embeddings")["param"] == "dimensions"


def test_token_ids_are_refused_clearly(server: Running) -> None:
    for value in ([1, 2], [[1, 2]]):
        assert "token ids" in refused(server, {"prompt": value}, "/v1/completions")["message"]
        assert "token ids" in refused(server, {"input": value}, "/v1/embeddings")["message"]


def test_a_prompt_too_long_is_refused_with_the_numbers(client: openai.OpenAI, small_workshop: SmallWorkshop) -> None:
    context = client.models.retrieve(small_workshop.lm).context  # type: ignore[attr-defined]
    with pytest.raises(openai.BadRequestError, match=rf"has \d+ tokens, the model's context is {context}") as caught:
        client.completions.create(model=small_workshop.lm, prompt="word and word " * context)
    assert caught.value.code == "context_length_exceeded"


@pytest.mark.parametrize("content", [b"", b"{", b"[1,", b'{"messages": NaN', b"\xff\xfe", b"null", b"3", b'"x"',
                                     b"[" * 100_000, b'{"messages": [], "model": "\\ud800"}'])
def test_broken_bodies(server: Running, content: bytes) -> None:
    for path in ("chat/completions", "completions", "embeddings", "moderations", "feedback"):
        answer = httpx.post(f"{server.url}/v1/{path}", content=content, timeout=30,
                            headers={"content-type": "application/json"})
        assert answer.status_code == 400, (path, answer.text)
        assert answer.json()["error"]["message"]


def test_no_json_at_all(server: Running) -> None:
    answer = httpx.post(f"{server.url}/v1/chat/completions", data={"messages": "x"}, timeout=30)
    assert answer.status_code == 400
    assert "JSON" in answer.json()["error"]["message"]


def test_unknown_paths_and_methods(server: Running) -> None:
    assert server.get("/v1/nothing").json()["error"]["type"] == "not_found_error"
    refused = server.get("/v1/chat/completions")
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")
    refused = httpx.delete(f"{server.url}/v1/feedback")
    assert (refused.status_code, set(refused.headers["allow"].split(", "))) == (405, {"GET", "POST"})
    assert server.get("/docs").status_code == 404
    assert server.get("/redoc").status_code == 404
    assert server.get("/openapi.json").json()["info"]["title"] == "Bottega"


def test_too_large_bodies(server: Running) -> None:
    large = b'{"input": "' + b"x" * (11 * 1024 * 1024) + b'"}'
    answer = httpx.post(f"{server.url}/v1/moderations", content=large, timeout=30,
                        headers={"content-type": "application/json"})
    assert answer.status_code == 413
    answer = httpx.post(f"{server.url}/v1/moderations", content=iter([large[:2**20]] * 12), timeout=30,
                        headers={"content-type": "application/json"})  # no length told before
    assert answer.status_code == 413
    assert answer.json()["error"]["message"].startswith("the body is larger")


def test_a_told_length_does_not_open_the_door_for_chunks(server: Running) -> None:
    head = ("POST /v1/moderations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n")
    chunk = b"100000\r\n" + b" " * 2**20 + b"\r\n"
    address = httpx.URL(server.url)
    with socket.create_connection((address.host, address.port or 0), timeout=30) as client:
        answer = b"HTTP/1.1 400"
        with contextlib.suppress(OSError):  # the server may have closed the connection before it was all sent
            client.sendall(head.encode())
            for _ in range(11):
                client.sendall(chunk)
            client.sendall(b'7\r\n{"input\r\n6\r\n": ""}\r\n0\r\n\r\n')
            answer = client.recv(100)
        assert answer.startswith((b"HTTP/1.1 413", b"HTTP/1.1 400"))


def test_controls_that_leave_nothing(client: openai.OpenAI, small_workshop: SmallWorkshop) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model=small_workshop.lm, prompt="x", logit_bias={"999999": 1})
    assert caught.value.param == "logit_bias"
