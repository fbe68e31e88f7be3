"""Text grows by whole characters and never shows a piece of a stop string, wherever the tokens are cut."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from bottega.generation.detokenise import Detokeniser


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[first:last] for first, last in itertools.pairwise(edges)]


def run(parts: list[bytes], stops: list[str]) -> tuple[list[str], bool]:
    text = Detokeniser(stops)
    shown = []
    for part in parts:
        shown.append(text.push(part))
        if text.stopped:
            break
    shown.append(text.finish())
    return shown, text.stopped


def expected(text: str, stops: list[str]) -> str:
    """Character by character: the text before the stop string that is complete first."""
    for end in range(len(text) + 1):
        starts = [end - len(stop) for stop in stops if text[:end].endswith(stop)]
        if starts:
            return text[:min(starts)]
    return text


ALPHABET = "abé猫🐈"
PLACES = st.lists(st.integers(0, 200), max_size=12)


@given(text=st.text(ALPHABET, max_size=30), stops=st.lists(st.text(ALPHABET, min_size=1, max_size=4), max_size=3),
       places=PLACES)
def test_any_cut_gives_the_same_text(text: str, stops: list[str], places: list[int]) -> None:
    shown, stopped = run(cut(text.encode(), places), stops)
    assert "".join(shown) == expected(text, stops)
    assert stopped == any(stop in text for stop in stops)
    growing = ""
    for piece in shown:
        growing += piece
        assert "\ufffd" not in piece
        assert not any(stop in growing for stop in stops)


@given(data=st.binary(max_size=40), places=PLACES)
def test_broken_bytes_read_as_python_reads_them(data: bytes, places: list[int]) -> None:
    assert "".join(run(cut(data, places), [])[0]) == data.decode("utf-8", "replace")


def test_a_character_waits_for_all_its_bytes() -> None:
    text = Detokeniser()
    assert [text.push(bytes([byte])) for byte in "🐈!".encode()] == ["", "", "", "🐈", "!"]


def test_the_start_of_a_stop_string_is_held_and_released() -> None:
    text = Detokeniser(["\n\nUser:"])
    assert text.push(b"Hi\n\nUs") == "Hi"
    assert text.push(b"eful") == "\n\nUseful"
    assert text.push(b"\n\nUser") == ""
    assert text.finish() == "\n\nUser"
