"""`bottega distil`: answers of our models and of one behind a real server become conversations to learn from."""

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from bottega.commands.questions import questions
from bottega.core.errors import ContextError, DataError, InputError
from bottega.core.files import sha256_file
from bottega.data.rows import usable
from bottega.generation.served import ServedModel
from tests.cli.conftest import bottega
from tests.server.running import Running
from tests.workshops import SmallWorkshop

QUESTIONS = [{"prompt": "My kettle arrived broken."},
             {"messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hello!"},
                           {"role": "user", "content": "My desk is late."},
                           {"role": "assistant", "content": "cut off"}]}]


@pytest.fixture
def asked(tmp_path: Path) -> Path:
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in QUESTIONS) + "\n")
    return path


def check(folder: Path, questions: Path, **wanted: Any) -> list[dict[str, Any]]:
    output = folder / "answers.jsonl"
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert [row["messages"][-2]["content"] for row in rows] == ["My kettle arrived broken.", "My desk is late."]
    assert [len(row["messages"]) for row in rows] == [2, 4]
    assert all(row["messages"][-1]["role"] == "assistant" and row["messages"][-1]["content"].strip() for row in rows)
    assert [(found.kind, found.fault) for found in usable(iter(enumerate(rows, 1)), "text")] == [("chat", None)] * 2
    lineage = json.loads((folder / "answers.lineage.json").read_text())
    assert lineage["content"] == sha256_file(output)
    assert lineage["parameters"]["prompts"] == sha256_file(questions)
    assert {name: lineage["parameters"][name] for name in wanted} == wanted
    return rows


def test_a_model_of_ours_and_the_same_behind_a_server_say_the_same(
        small_workshop: SmallWorkshop, server: Running, asked: Path, tmp_path: Path) -> None:
    options = ("--teacher", small_workshop.assistant, "--temperature", "0", "--max-tokens", "24", "-o", "answers.jsonl")
    done = bottega("distil", str(asked), *options, home=small_workshop.home, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "2 conversations" in done.stdout
    ours = check(tmp_path, asked, teacher=small_workshop.assistant)
    assert json.loads((tmp_path / "answers.lineage.json").read_text())["parents"][0]["kind"] == "model"
    (tmp_path / "answers.jsonl").unlink()  # another teacher does not write over it
    done = bottega("distil", str(asked), *options, "--url", f"{server.url}/v1", "--licence", "MIT", "--json",
                   home=tmp_path / "empty", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["conversations"] == 2
    theirs = check(tmp_path, asked, host=server.url.removeprefix("http://"))
    assert theirs == ours
    done = bottega("distil", str(asked), "--url", f"{server.url}/v1", "--teacher", "nobody", "-o", "none.jsonl",
                   home=tmp_path / "empty", cwd=tmp_path)
    assert done.returncode == 2
    assert "answered 404" in done.stderr
    assert not list(tmp_path.glob("none*"))


class Remembers(http.server.BaseHTTPRequestHandler):
    """Redirects what it is asked, and keeps what it was told."""

    seen: ClassVar[list[tuple[str, str | None]]] = []
    status, place, reply = 302, "/elsewhere", b"{}"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.seen.append((self.path, self.headers.get("Authorization")))
        self.send_response(self.status)
        if self.status == 302:
            self.send_header("Location", self.place)
        self.send_header("Content-Length", str(len(self.reply)))
        self.end_headers()
        self.wfile.write(self.reply)

    do_GET = do_POST

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def address() -> Iterator[str]:
    Remembers.seen.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Remembers) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_address[1]}/v1"
        listening.shutdown()


def test_a_key_goes_to_the_address_alone_and_into_no_message(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "sk-secret")
    model = ServedModel(address, "m", "MY_KEY")
    with pytest.raises(InputError, match="answered 302") as caught:
        list(model.replies([[{"role": "user", "content": "hello"}]], seeds=[0]))
    assert Remembers.seen == [("/v1/chat/completions", "Bearer sk-secret")]  # the redirect was not followed
    assert "sk-secret" not in str(caught.value)
    monkeypatch.setattr(Remembers, "status", 200)
    with pytest.raises(InputError, match="does not answer as OpenAI's"):
        model.answer([{"role": "user", "content": "hello"}])
    monkeypatch.setattr(Remembers, "reply", b'{"choices": [{"message": {"content": "hi"}}]}')
    assert model.answer([{"role": "user", "content": "hello"}], temperature=0.5) == "hi"


def test_an_address_that_is_none_is_refused_and_a_busy_one_asked_again(
        address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in ("file:///etc/passwd", "ftp://host/v1", "https://user:sk-1@host/v1", "host/v1", "http://[::1/v1",
                  "http://host:port/v1", "http://host/a b/v1", "http://höst/v1"):
        with pytest.raises(InputError, match="is not an address of a model") as caught:
            ServedModel(wrong, "m")
        assert "sk-1" not in str(caught.value)
    monkeypatch.setattr("bottega.generation.served._PAUSES", (0.0, 0.0, 0.0))
    monkeypatch.setattr(Remembers, "status", 503)
    with pytest.raises(InputError, match=r"answered 503 .* 4 times"):
        ServedModel(address, "m").answer([{"role": "user", "content": "hello"}])
    assert len(Remembers.seen) == 4
    with pytest.raises(InputError, match="cannot be reached"):
        ServedModel("http://127.0.0.1:9/v1", "m").answer([{"role": "user", "content": "hello"}])


@pytest.mark.parametrize("key", ["sk-se\ncret", "sk-se\u2019cret"])
def test_a_key_that_no_header_can_carry_is_not_spelled_out(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", key)
    with pytest.raises(InputError, match="no header can carry") as caught:
        ServedModel("http://127.0.0.1:9/v1", "m", "MY_KEY")
    assert "cret" not in str(caught.value)
    assert caught.value.where == "MY_KEY"


def test_a_line_break_after_a_key_is_not_part_of_it(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "sk-secret\r\n")
    monkeypatch.setattr(Remembers, "status", 200)
    monkeypatch.setattr(Remembers, "reply", b'{"choices": [{"message": {"content": "hi"}}]}')
    assert ServedModel(address, "m", "MY_KEY").answer([{"role": "user", "content": "hello"}]) == "hi"
    assert Remembers.seen[-1][1] == "Bearer sk-secret"


def test_what_a_line_holds_is_kept_whatever_it_is(address: str, tmp_path: Path,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    """A line separator within a text ends no line, 0 is an answer, and half a surrogate pair costs nobody the rest."""

    path = tmp_path / "questions.jsonl"
    path.write_text('{"prompt": "one\u2028two", "reference": 0}\n{"prompt": "half \\ud800", "reference": 1.5}\n')
    assert [(one.messages[0]["content"], one.reference) for one in questions(path)] == [
        ("one\u2028two", "0"), ("half \ud800", "1.5")]
    monkeypatch.setattr(Remembers, "status", 200)
    monkeypatch.setattr(Remembers, "reply", b'{"choices": [{"message": {"content": "and so"}, '
                                            b'"finish_reason": "length"}]}')
    done = bottega("distil", str(path), "--url", address, "--teacher", "m", "-o", "answers.jsonl", "--json",
                   home=tmp_path / "empty", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["conversations"], found["cut"]) == (2, 2), "who cuts his teacher short is told"
    rows = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().split("\n") if line]
    assert [row["messages"][0]["content"] for row in rows] == ["one\u2028two", "half \ud800"]


class CutsOff(http.server.BaseHTTPRequestHandler):
    """Promises more bytes than it sends."""

    def do_POST(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b'{"choices": [')

    def log_message(self, *_: Any) -> None: ...


def test_what_came_to_stand_there_meanwhile_is_not_written_over(address: str, asked: Path, tmp_path: Path,
                                                                monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Remembers, "status", 200)
    monkeypatch.setattr(Remembers, "reply", json.dumps({"choices": [{"message": {"content": "Yes."}}]}).encode())
    output = tmp_path / "answers.jsonl"

    def log_request(*_: Any) -> None:  # between the question and its answer
        output.write_text("a person's own words\n")

    command = ("distil", str(asked), "--url", address, "--teacher", "m", "-o", str(output))
    with monkeypatch.context() as during:
        during.setattr(Remembers, "log_request", log_request)
        refused = bottega(*command, home=tmp_path / "home", cwd=tmp_path)
    assert refused.returncode == 2
    assert "answers.jsonl exists already, and was not made by 'bottega distil'" in refused.stderr
    assert "2 of 2 prompts are answered and kept" in refused.stderr
    assert output.read_text() == "a person's own words\n"
    assert not (tmp_path / "answers.lineage.json").exists()
    output.unlink()
    seen = len(Remembers.seen)
    done = bottega(*command, "--resume", home=tmp_path / "home", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(Remembers.seen) == seen
    check(tmp_path, asked)


def test_an_answer_that_is_cut_off_is_asked_for_again_and_then_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bottega.generation.served._PAUSES", (0.0, 0.0, 0.0))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), CutsOff) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        with pytest.raises(InputError, match=r"cannot be reached: IncompleteRead.* 4 times"):
            ServedModel(f"http://127.0.0.1:{listening.server_address[1]}/v1", "m").answer(
                [{"role": "user", "content": "hello"}])
        listening.shutdown()


@pytest.mark.parametrize("said", [b"[" * 100_000, b'{"choices": [1]}', b"[]", b"\xff"],
                         ids=["deep", "number", "list", "bytes"])
def test_an_answer_of_another_shape_is_an_error_in_words(address: str, said: bytes,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Remembers, "status", 200)
    monkeypatch.setattr(Remembers, "reply", said)
    with pytest.raises(InputError, match="does not answer as OpenAI's chat completions do"):
        ServedModel(address, "m").answer([{"role": "user", "content": "hello"}])


@pytest.mark.parametrize("said", [
    b'{"error": {"message": "too many", "code": "context_length_exceeded"}}',
    b'{"object": "error", "message": "This model\'s maximum context length is 4096 tokens", "code": 400}'])
def test_a_conversation_too_long_for_the_address_is_told_apart(address: str, said: bytes,
                                                              monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Remembers, "status", 400)
    monkeypatch.setattr(Remembers, "reply", said)
    with pytest.raises(ContextError, match="too long for m at 127"):
        ServedModel(address, "m").answer([{"role": "user", "content": "hello"}])
    monkeypatch.setattr(Remembers, "reply", b'{"error": {"message": "no such parameter"}}')
    with pytest.raises(InputError, match="answered 400") as caught:
        ServedModel(address, "m").answer([{"role": "user", "content": "hello"}])
    assert not isinstance(caught.value, ContextError)


@pytest.mark.parametrize(("line", "fault"), [
    ("not json", "asks nothing"), ("[" * 100_000, "asks nothing"), ('{"text": "x"}', "asks nothing"),
    ('{"messages": [{"role": "assistant", "content": "x"}]}', "all its turns"),
    ('{"messages": [{"role": "boss", "content": "x"}]}', "boss"), ("", "holds no questions")])
def test_a_line_that_asks_nothing_is_named(line: str, fault: str, tmp_path: Path) -> None:
    path = tmp_path / "questions.jsonl"
    path.write_text('{"prompt": "fine"}\n' + line + "\n" if line else "\n")
    with pytest.raises(DataError, match=fault) as caught:
        questions(path)
    assert "questions.jsonl" in str(caught.value)
