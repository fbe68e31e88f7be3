"""Rows as others write them: OpenAI's messages, ShareGPT, Alpaca, hh-rlhf, DPO and KTO sets; bad rows with reasons."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bottega.core.errors import DataError
from bottega.core.tool_text import Call, read_calls, write_calls
from bottega.data.dataset import Dataset
from bottega.data.formats import Unreadable
from bottega.data.forms import recognise
from bottega.data.record import check_payload
from bottega.data.rows import read_rows

Make = Callable[..., Dataset]
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


def chat(row: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the (role, content) pairs of a conversation."""
    kind, payload = recognise(row, "text")
    assert kind == "chat"
    return [(turn["role"], turn["content"]) for turn in check_payload("chat", payload, where="")["messages"]]


def call(name: str, arguments: Any, id: str | None = None) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "arguments": arguments}, **({"id": id} if id else {})}


def test_openai_messages_with_tools_parts_and_developer() -> None:
    found = chat({"tools": [TOOL], "messages": [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Rome "}, {"type": "text", "text": "and Oslo?"}]},
        {"role": "assistant", "content": None, "tool_calls": [
            call("weather", '{"city":"Rome"}', "a"), call("weather", '{"city": "Oslo", "é": 1}', "b")]},
        {"role": "tool", "tool_call_id": "b", "content": "cold"},
        {"role": "tool", "tool_call_id": "a", "content": "hot"},
        {"role": "assistant", "content": "Hot, and cold."}]})
    assert found == [
        ("system", f"Be brief.\n\n<tools>\n{json.dumps(TOOL)}\n</tools>"), ("user", "Rome and Oslo?"),
        ("assistant", '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>\n'
                      '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo", "é": 1}}\n</tool_call>'),
        ("tool", "hot"), ("tool", "cold"), ("assistant", "Hot, and cold.")]  # results in the order of the calls
    assert read_calls(found[2][1]) == ("", [Call("weather", {"city": "Rome"}),
                                            Call("weather", {"city": "Oslo", "é": 1})])


def test_calls_are_read_back_and_broken_ones_stay_words() -> None:
    calls = [Call("a", {"x": [1, None, "</b>"]}), Call("ü", {})]
    for words in ("", "I look.", "two\nlines\n"):
        assert read_calls(write_calls(words, calls)) == (words, calls)
    for broken in ("<tool_call>\n{\n</tool_call>", '<tool_call>{"name": 1, "arguments": {}}</tool_call>',
                   "<tool_call>"):
        assert read_calls(broken) == (broken, [])


def test_written_turns_are_read_again_as_they_are() -> None:
    row = {"messages": [{"role": "user", "content": "q"},
                        {"role": "assistant", "content": None, "tool_calls": [call("f", {})]},
                        {"role": "tool", "content": "r"}, {"role": "assistant", "content": "a", "weight": 0},
                        {"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "train": True}]}
    _, once = recognise(row, "text")
    _, twice = recognise(check_payload("chat", once, where=""), "text")
    assert once == twice
    assert [turn.get("weight") for turn in twice["messages"]] == [None, None, None, 0, None, None]


def test_share_gpt_and_alpaca() -> None:
    assert chat({"system": "S", "tools": json.dumps([TOOL]), "conversations": [
        {"from": "human", "value": "q"}, {"from": "function_call", "value": '{"name": "f", "arguments": {"a": 1}}'},
        {"from": "observation", "value": "r"}, {"from": "gpt", "value": "a"}]}) == [
            ("system", f"S\n\n<tools>\n{json.dumps(TOOL)}\n</tools>"), ("user", "q"),
            ("assistant", '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'), ("tool", "r"),
            ("assistant", "a")]
    assert chat({"instruction": "Add", "input": "1 2", "output": "3", "system": "Sum.", "history": [["q", "a"]]}) == [
        ("system", "Sum."), ("user", "q"), ("assistant", "a"), ("user", "Add\n\n1 2"), ("assistant", "3")]


@pytest.mark.parametrize(("row", "reason", "said"), [
    ({"messages": [{"content": "x"}]}, "missing-key", "turn 1 has no 'role'"),
    ({"messages": [{"role": "user"}]}, "missing-key", "turn 1 has no content"),
    ({"messages": [{"role": "asistant", "content": "x"}]}, "unknown-role", "did you mean 'assistant'"),
    ({"messages": [{"role": "user", "content": " "}]}, "empty-content", "turn 1"),
    ({"messages": [{"role": "user", "content": "q"}]}, "no-answer", "no assistant turn"),
    ({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "weight": 0}]},
     "no-answer", "no assistant turn"),
    ({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "weight": 3}]},
     "malformed", "the weight 3"),
    ({"messages": [{"role": "user", "content": "q"}, {"role": "tool", "content": "r"}]}, "tool-order", "turn 2"),
    ({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "tool_calls": [call("f", "{", "a")]}]},
     "malformed", "the arguments of f in turn 2 are not JSON"),
    ({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "tool_calls": [call("f", {}, "a")]},
                   {"role": "tool", "tool_call_id": "b", "content": "r"}]}, "tool-order", "asked for ('b')"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "malformed", "'image_url'"),
    ({"messages": "x"}, "malformed", "not a list"), ({"messages": [7]}, "malformed", "turn 1 is int"),
    ({"messages": [{"role": "user", "content": "q"}], "tools": "{"}, "malformed", "'tools' is not JSON"),
    ({"conversations": [{"from": "human", "value": "a"}, {"from": "human", "value": "b"}]}, "turn-order", "turn 2"),
    ({"conversations": [{"from": "gpt", "value": "a"}]}, "turn-order", "turn 1"),
    ({"conversations": [{"from": "robot", "value": "a"}]}, "unknown-role", "'robot'"),
    ({"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"},
                        {"from": "observation", "value": "c"}]}, "tool-order", "turn 3"),
    ({"instruction": "q", "output": ""}, "empty-content", "'output'"),
    ({"instruction": "q", "output": "a", "history": [["x"]]}, "malformed", "entry 1 of 'history'"),
    ({"prompt": "q", "chosen": "a", "rejected": " "}, "empty-content", "'rejected'"),
    ({"chosen": "a", "rejected": "b"}, "missing-key", "no prompt"),
    ({"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: p\n\nAssistant: a"}, "prompts-differ", "two"),
    ({"messages": [{"role": "user", "content": "q"}], "label": True}, "no-answer", "label"),
    ({"desirable": True, "messages": [{"role": "user", "content": "q"}]}, "missing-key", "'answer'"),
    ([1], "malformed", "list"), ({"other": 1}, "no-text", "it has: other"),
])
def test_bad_rows_have_reasons(row: Any, reason: str, said: str) -> None:
    with pytest.raises(Unreadable) as caught:
        recognise(row, "text")
    assert caught.value.reason == reason
    assert said in caught.value.detail


def test_preferences_and_ratings() -> None:
    turn = {"role": "user", "content": "q"}
    cases: list[tuple[dict[str, Any], str, dict[str, Any]]] = [
        ({"chosen": "\n\nHuman: q\n\nAssistant: yes", "rejected": "\n\nHuman: q\n\nAssistant: no"}, "preference",
         {"messages": [turn], "chosen": "yes", "rejected": "no"}),
        ({"conversations": [{"from": "human", "value": "q"}], "chosen": {"from": "gpt", "value": "yes"},
          "rejected": {"from": "gpt", "value": "no"}}, "preference",
         {"messages": [turn], "chosen": "yes", "rejected": "no"}),
        ({"instruction": "q", "input": "", "chosen": "yes", "rejected": "no", "margin": 2, "rater": "r1"}, "preference",
         {"messages": [turn], "chosen": "yes", "rejected": "no", "margin": 2.0, "rater": "r1"}),
        ({"messages": [turn, {"role": "assistant", "content": "a"}], "label": False}, "rating",
         {"messages": [turn], "answer": "a", "desirable": False}),
        ({"prompt": "q", "completion": "a", "label": True}, "rating",
         {"messages": [turn], "answer": "a", "desirable": True}),
        ({"messages": [turn], "answer": "a", "desirable": True, "rater": "r2"}, "rating",
         {"messages": [turn], "answer": "a", "desirable": True, "rater": "r2"})]
    for row, kind, wanted in cases:
        found, payload = recognise(row, "text")
        assert (found, check_payload(kind, payload, where="")) == (kind, wanted)  # type: ignore[arg-type]


def test_bad_rows_are_told_by_line_and_counted(tmp_path: Path, make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    good = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
    rows = [good, {"messages": [{"role": "boss", "content": "x"}]}, {"conversations": [{"from": "gpt", "value": "x"}]},
            {**good, "tools": [TOOL]}, {"messages": [{"role": "user", "content": ""}]}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    dataset = make(tmp_path / "rows.jsonl", validation=0.4)
    stages = dataset.card["bottega"]["stages"]
    assert stages["skipped"] == {"unknown-role": 1, "turn-order": 1, "empty-content": 1}
    assert (stages["rows"], stages["kept"]) == (2, 2)
    said = capsys.readouterr().err
    assert "rows.jsonl:2: turn 1 has the role 'boss'" in said
    assert "rows.jsonl:3: turn 1 is of 'gpt' where a person" in said
    (tmp_path / "bad.jsonl").write_text(json.dumps(rows[1]))
    with pytest.raises(DataError, match=r"unknown-role 1; first unknown-role: .*bad\.jsonl:1: turn 1"):
        make(tmp_path / "bad.jsonl")


def test_ratings_are_prepared_and_a_prompt_is_on_one_side(tmp_path: Path, make: Make) -> None:
    rows = [{"messages": [{"role": "user", "content": f"q{n // 4}"}], "answer": f"a{n}", "desirable": n % 2 == 0,
             "rater": f"r{n % 3}"} for n in range(200)]
    (tmp_path / "ratings.jsonl").write_text("\n".join(map(json.dumps, rows)))
    dataset = make(tmp_path / "ratings.jsonl", validation=0.3)
    assert dataset.kind == "rating"
    sides = {split: list(dataset.rows(split)) for split in ("train", "validation")}
    prompts = [{row["messages"][0]["content"] for row in side} for side in sides.values()]
    assert all(prompts)
    assert not prompts[0] & prompts[1]
    assert sum(len(side) for side in sides.values()) == 200
    assert {type(row["desirable"]) for row in sides["train"]} == {bool}
    assert {row["rater"] for row in sides["train"]} == {"r0", "r1", "r2"}


@pytest.mark.parametrize(("name", "kinds", "skipped"), [
    ("instruct_small/llamafactory_glaive_toolcall_en_demo.json", {"chat": 300}, {}),
    ("instruct_small/llamafactory_alpaca_en_demo.json", {"chat": 999}, {}),
    ("instruct_small/gpteacher_roleplay.json", {"chat": 3146}, {}),
    ("preference_small/llamafactory_dpo_en_demo.json", {"preference": 300}, {}),
    ("preference_small/llamafactory_kto_en_demo.json", {"rating": 300}, {}),
    ("hh_rlhf_harmless_test/harmless_base_test.jsonl.gz", {"preference": 2303},
     {"prompts-differ": 5, "empty-content": 4}),
])
def test_real_files(name: str, kinds: dict[str, int], skipped: dict[str, int], real_data: Path) -> None:
    rows = list(read_rows(real_data / name, "text"))
    assert Counter(row.kind for row in rows if row.fault is None) == kinds
    assert Counter(row.fault.reason for row in rows if row.fault) == skipped
