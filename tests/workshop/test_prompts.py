"""Prompts keep every version; variables are filled once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bottega.core.errors import ControlError, InputError, NotFoundError
from bottega.workshop import audit, prompts
from bottega.workshop.store import Store


def save(store: Store, body: str = "Explain {{topic}}.", name: str = "explain", **more: object) -> int:
    return prompts.save(store, name, body, author="ada", **more)  # type: ignore[arg-type]


def test_versions_are_numbered_and_an_unchanged_prompt_is_not_a_new_one(store: Store) -> None:
    assert save(store, system="Be brief.", controls={"temperature": 0.2}, note="first") == 1
    assert save(store, system="Be brief.", controls={"temperature": 0.2}, note="again") == 1
    assert save(store, system="Be kind.", controls={"temperature": 0.2}, note="kinder") == 2
    assert save(store, "Explain {{topic}} to {{who}}.", system="Be kind.", controls={"temperature": 0.3}) == 3
    assert save(store, system="Be brief.", controls={"temperature": 0.2}) == 4  # as version 1, but after version 3
    first, newest = prompts.get(store, "explain", 1), prompts.get(store, "explain")
    assert (first.body, first.system, first.controls, first.note, first.author, first.version) == (
        "Explain {{topic}}.", "Be brief.", {"temperature": 0.2}, "first", "ada", 1)
    assert newest.version == 4
    assert [version.version for version in prompts.versions(store, "explain")] == [4, 3, 2, 1]
    assert [event.detail["version"] for event in audit.events(store, action="prompt.save")] == [4, 3, 2, 1]


def test_a_difference_shows_what_changed(store: Store) -> None:
    save(store, "One.\nTwo.", controls={"top_k": 5})
    save(store, "One.\nThree.", system="Be kind.", controls={"top_k": 6})
    lines = prompts.diff(store, "explain", 1, 2)
    assert lines[:2] == ["--- version 1", "+++ version 2"]
    changes = [line for line in lines[2:] if line[0] in "+-"]
    assert changes == ["+Be kind.", "-Two.", "+Three.", '-  "top_k": 5', '+  "top_k": 6']
    assert prompts.diff(store, "explain", 2, 2) == []


def test_a_deleted_prompt_is_gone_until_saved_again(store: Store) -> None:
    save(store)
    save(store, name="another")
    prompts.delete(store, "explain", "bob")
    assert prompts.names(store) == ["another"]
    for use in (lambda: prompts.get(store, "explain"), lambda: prompts.versions(store, "explain"),
                lambda: prompts.delete(store, "explain", "bob"), lambda: prompts.diff(store, "explain", 1, 1)):
        with pytest.raises(NotFoundError, match="no prompt 'explain'"):
            use()
    assert save(store) == 1
    assert save(store, "New.") == 2
    assert prompts.names(store) == ["another", "explain"]
    assert [event.action for event in audit.events(store, subject="explain")] == [
        "prompt.save", "prompt.save", "prompt.delete", "prompt.save"]


def test_unknown_names_and_versions_are_named(store: Store) -> None:
    save(store)
    with pytest.raises(NotFoundError, match="did you mean 'explain'"):
        prompts.get(store, "explian")
    for version in (0, 2, -1, 10**30):
        with pytest.raises(NotFoundError, match=f"no version {version}"):
            prompts.get(store, "explain", version)


@pytest.mark.parametrize("name", ["", " ", " x", "x ", "x" * 101, "a\nb", "a\0b", "\ud800", "a\u202eb"])
def test_a_bad_name_is_refused(store: Store, name: str) -> None:
    with pytest.raises(InputError, match="prompt name"):
        save(store, name=name)
    assert prompts.names(store) == []


def test_what_is_too_long_empty_or_no_control_is_refused(store: Store) -> None:
    with pytest.raises(InputError, match="has no text"):
        save(store, " \n")
    with pytest.raises(InputError, match="body of prompt 'explain' has 200001"):
        save(store, "x" * 200_001)
    with pytest.raises(InputError, match="system text"):
        save(store, system="x" * 200_001)
    with pytest.raises(InputError, match="note"):
        save(store, note="x" * 1001)
    with pytest.raises(ControlError, match="temperature"):
        save(store, controls={"temperature": 99})
    with pytest.raises(ControlError, match="tempo"):
        save(store, controls={"tempo": 1})
    assert prompts.names(store) == []


def test_names_may_be_in_any_script(store: Store) -> None:
    for name in ("Erklärung für Käufer", "説明 1", "../../etc/passwd", "'; DROP TABLE prompts; --"):
        save(store, "null \0 half \ud800", name=name)
        assert prompts.get(store, name).body == "null \0 half \ud800"
    assert len(prompts.names(store)) == 4


def test_variables_are_found_in_order() -> None:
    assert prompts.variables("{{ b }} {{a}} {{b}} {{ 1x }} {{x-y}} {{}} {x} {{{c}}}") == ["b", "a", "c"]


def test_filling_needs_each_variable_and_no_other() -> None:
    assert prompts.fill("{{a}} and {{ a }}", {"a": "x"}) == "x and x"
    with pytest.raises(InputError, match="'b' has no value"):
        prompts.fill("{{a}}{{b}}", {"a": "x"})
    with pytest.raises(InputError, match="no variable 'aa'"):
        prompts.fill("{{a}}", {"a": "x", "aa": "y"})


@given(st.text(), st.text())
def test_a_value_is_text_and_nothing_more(one: str, other: str) -> None:
    value = one + "{{b}}\\1\\g<0>" + other
    assert prompts.fill("<{{a}}|{{b}}>", {"a": value, "b": "B"}) == f"<{value}|B>"
