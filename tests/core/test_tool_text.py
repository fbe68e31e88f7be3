"""Calls read from a turn in pieces are those of the whole turn, and words do not wait without need."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bottega.core.tool_text import Call, CallReader, read_calls, write_calls

_INNER = '</tool_call>\n<tool_call>\n{"name": "a", "arguments": {}}\n</tool_call>'
_PIECES = ["Well", "\n", "<", "<tool_call>", "</tool_call>", "<tool_cal", '\n{"name": "a", "arguments": {}}\n', "{}",
           write_calls("", [Call("a", {"x": 1})]), write_calls("Look.", [Call("b", {})]), "<tool_call>\n<tool_call>",
           write_calls("", [Call("a", {"x": _INNER})]), '<tool_call>\n{"name": "a", "arguments": {"x": "', '"',
           "\\", "}"]


@given(st.lists(st.sampled_from(_PIECES), max_size=8).map("".join), st.lists(st.integers(1, 9), min_size=1, max_size=9),
       st.sampled_from([None, {"a"}]))
def test_pieces_say_what_the_whole_says(text: str, sizes: list[int], known: set[str] | None) -> None:
    reader, words, calls, place, turn = CallReader(known), "", list[Call](), 0, 0
    while place < len(text):
        size = sizes[turn % len(sizes)]
        more, others = reader.push(text[place:place + size])
        words, calls, place, turn = words + more, calls + others, place + size, turn + 1
    more, others = reader.finish()
    assert (words + more, calls + others) == read_calls(text, known)


def test_words_wait_only_where_a_call_may_begin() -> None:
    reader = CallReader()
    assert reader.push("Well, 1 < 2\n") == ("Well, 1 < 2", [])
    assert reader.push("and ") == ("\nand ", [])
    assert reader.push("<tool") == ("", [])
    assert reader.push("box>") == ("<toolbox>", [])
    assert reader.push('\n<tool_call>\n{"name": "a", "arguments": {}}\n</tool') == ("", [])
    assert reader.push("_call>\nDone") == ("\nDone", [Call("a", {})])
    assert reader.finish() == ("", [])


@given(st.lists(st.builds(Call, st.sampled_from(["a", "b"]), st.dictionaries(
    st.sampled_from(["x", "</tool_call>"]), st.lists(st.sampled_from(_PIECES)).map("".join))), min_size=1, max_size=3))
def test_a_mark_inside_an_argument_closes_nothing(calls: list[Call]) -> None:
    text = write_calls("Look.", calls)
    assert read_calls(text) == ("Look.", calls)
    reader = CallReader()
    found = [reader.push(letter) for letter in text]
    assert [call for _, some in found for call in some] == calls
    assert "".join(words for words, _ in found) == "Look."
    assert reader.finish() == ("", [])


@pytest.mark.parametrize(("known", "calls"), [(None, 1), ({"a"}, 1), ({"b"}, 0), (set(), 0)])
def test_only_what_is_known_is_called(known: set[str] | None, calls: int) -> None:
    text = write_calls("", [Call("a", {})])
    assert len(read_calls(text, known)[1]) == calls
    assert read_calls(text, {"b"}) == (text, [])
