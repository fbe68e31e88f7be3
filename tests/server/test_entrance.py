"""Who is let in, under which address, and how the server stops."""

import json
import os
import signal
import socket
import time
from pathlib import Path

import httpx
import openai
import pytest

from bottega.commands.serve import serve as serve_command
from bottega.core.errors import InputError
from tests.server.conftest import Serve
from tests.server.running import Running, bottega
from tests.workshops import SmallWorkshop


def test_keys(serve: Serve, fresh_home: Path) -> None:
    refused = bottega("serve", "--host", "0.0.0.0", "--port", "0", home=fresh_home)
    assert refused.returncode == 2
    assert "bottega keys create NAME" in refused.stderr
    made = json.loads(bottega("keys", "create", "team", "--json", home=fresh_home).stdout)
    with serve("--host", "0.0.0.0") as server:
        url = server.url.replace("0.0.0.0", "127.0.0.1")
        client = openai.OpenAI(base_url=f"{url}/v1", api_key=made["key"], max_retries=0)
        assert client.models.list().data
        assert client.chat.completions.create(model="assistant", max_tokens=2,
                                              messages=[{"role": "user", "content": "Hi"}]).choices
        assert httpx.get(f"{url}/healthz").status_code == 200
        for headers in ({}, {"authorization": "Bearer btg-wrong"}, {"authorization": made["key"]},
                        {"cookie": "bottega_key=btg-wrong"}):
            answer = httpx.get(f"{url}/v1/models", headers=headers)
            assert answer.status_code == 401
            assert answer.json()["error"]["code"] == "invalid_api_key"
        with pytest.raises(openai.AuthenticationError):
            client.with_options(api_key="btg-wrong").models.list()
        assert httpx.get(f"{url}/metrics").status_code == 401
        assert httpx.get(f"{url}/v1/models", headers={"cookie": f"bottega_key={made['key']}"}).status_code == 200
        page = httpx.get(f"{url}/", headers={"accept": "text/html"})
        assert (page.status_code, page.headers["location"]) == (303, "/login")
        assert httpx.get(f"{url}/login").status_code == 200
        listed = json.loads(bottega("keys", "list", "--json", home=fresh_home).stdout)
        assert [key["name"] for key in listed] == ["team"]
        assert listed[0]["last_used"]
        assert made["key"] not in str(listed)
        assert bottega("keys", "revoke", made["prefix"], home=fresh_home).returncode == 0
        with pytest.raises(openai.AuthenticationError):
            client.models.list()
    assert bottega("keys", "revoke", "nothing", home=fresh_home).returncode == 2


def test_other_hosts_are_refused(server: Running) -> None:
    for host in ("evil.example", "evil.example:8400", "127.0.0.1.evil.example", "localhost.", "[::2]:1"):
        answer = server.get("/v1/models", headers={"host": host})
        assert answer.status_code == 403, host
        assert answer.json()["error"]["code"] == "forbidden_host"
    for host in ("localhost", "LOCALHOST:1", "127.0.0.1:80", "[::1]:8400", "[::1]"):
        assert server.get("/v1/models", headers={"host": host}).status_code == 200, host


def test_pages_of_others_change_nothing(server: Running) -> None:
    for origin in ("https://evil.example", "null", "http://localhost:1", server.url + ".evil.example"):
        assert server.post("/v1/moderations", {"input": "x"}, headers={"origin": origin}).status_code == 403, origin
    assert server.post("/v1/moderations", {"input": "x"}, headers={"origin": server.url}).status_code == 200
    assert "access-control-allow-origin" not in server.get("/v1/models", headers={"origin": "http://x"}).headers


def test_a_proxy_on_this_machine(serve: Serve, fresh_home: Path) -> None:
    key = json.loads(bottega("keys", "create", "proxy", "--json", home=fresh_home).stdout)["key"]
    with serve("--public-host", "Ai.Example", "--host", "127.0.0.2") as server:
        assert server.url.startswith("http://127.0.0.2:")
        headers = {"host": "ai.example", "authorization": f"Bearer {key}"}
        for host in ("ai.example", "AI.example:443", server.url.removeprefix("http://"), "localhost"):
            assert server.get("/v1/models", headers={**headers, "host": host}).status_code == 200, host
        assert server.get("/v1/models", headers={"host": "ai.example"}).status_code == 401
        assert server.get("/v1/models", headers={**headers, "host": "other.example"}).status_code == 403


def test_a_taken_port_is_told(fresh_home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = bottega("serve", "--port", str(port), home=fresh_home)
    assert done.returncode == 2
    assert f"cannot listen on 127.0.0.1 port {port}" in done.stderr
    assert "Traceback" not in done.stderr
    assert "cannot listen" in bottega("serve", "--host", "no.such.host.invalid", home=fresh_home).stderr


def test_a_core_is_left_for_http(monkeypatch: pytest.MonkeyPatch) -> None:
    cores = len(os.sched_getaffinity(0))
    for given, expected in ((None, str(max(1, cores - 1))), ("7", "7")):
        if given is None:
            monkeypatch.delenv("OMP_NUM_THREADS")
        else:
            monkeypatch.setenv("OMP_NUM_THREADS", given)
        with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(InputError):
            serve_command(port=taken.getsockname()[1])
        assert os.environ["OMP_NUM_THREADS"] == expected


def test_only_the_named_models(serve: Serve, fresh_home: Path, small_workshop: SmallWorkshop) -> None:
    with serve(small_workshop.lm) as server:
        assert server.models == [small_workshop.lm]
        assert server.get(f"/v1/models/{small_workshop.assistant}").status_code == 404
    done = bottega("serve", "nobody", "--port", "0", home=fresh_home)
    assert done.returncode == 2
    assert "unknown model 'nobody'" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopping_finishes_what_runs(serve: Serve, small_workshop: SmallWorkshop, number: signal.Signals) -> None:
    body = {"model": small_workshop.lm, "prompt": "Return a new array", "n": 16, "max_tokens": 200, "stream": True,
            "stream_options": {"include_usage": True}}
    with serve() as server:
        with httpx.stream("POST", f"{server.url}/v1/completions", json=body, timeout=60) as running:
            lines = running.iter_lines()
            next(lines)
            server.process.send_signal(number)
            time.sleep(0.1)
            refused = server.post("/v1/moderations", {"input": "x"})
            assert refused.status_code == 503
            assert int(refused.headers["retry-after"]) > 0
            health = server.get("/healthz")
            assert (health.status_code, health.json()["status"]) == (503, "stopping")
            rest = [line for line in lines if line]
        assert rest[-1] == "data: [DONE]"
        last = json.loads(rest[-2].removeprefix("data: "))
        assert last["usage"]["completion_tokens"] > 16
        assert sum('"finish_reason":"' in line for line in rest) == 16
        assert server.process.wait(10) == 0


def test_stopping_with_nothing_to_do_is_quick(serve: Serve) -> None:
    with serve() as server:
        idle = httpx.Client()
        assert idle.get(f"{server.url}/healthz").status_code == 200  # a connection that stays open
        start = time.monotonic()
        server.process.terminate()
        assert server.process.wait(10) == 0
        assert time.monotonic() - start < 3


def test_what_runs_too_long_is_told_that_the_server_stops(serve: Serve, small_workshop: SmallWorkshop) -> None:
    body = {"model": small_workshop.lm, "prompt": "Return a new array", "n": 64, "max_tokens": 200, "stream": True}
    with serve(grace=0.2) as server:
        with httpx.stream("POST", f"{server.url}/v1/completions", json=body, timeout=60) as running:
            lines = running.iter_lines()
            next(lines)
            server.process.terminate()
            rest = [line for line in lines if line]
        assert rest[-1] == "data: [DONE]"
        assert json.loads(rest[-2].removeprefix("data: "))["error"]["code"] == "stopping"
        assert server.process.wait(10) == 0
