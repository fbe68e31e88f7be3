"""Every format as a user's folder holds it: real files, odd names, odd bytes."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_helpers import everything, prose
from hypothesis import example, given
from hypothesis import strategies as st

from bottega.core.errors import DataError, InputError, MissingExtraError
from bottega.data.dataset import Dataset
from bottega.data.formats import PART, cut
from bottega.data.normalise import normalise

Make = Callable[..., Dataset]


def pdf_bytes(text: str) -> bytes:
    """Return a PDF of one page written by hand: catalogue, page, font and one line of text."""
    stream = f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET".encode()
    objects = [b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
               b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>",
               b"<</Length %d>>\nstream\n%s\nendstream" % (len(stream), stream),
               b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"]
    out, offsets = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    return (out + b"xref\n0 6\n0000000000 65535 f \n" + table
            + b"trailer<</Size 6/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % len(out))


def test_every_format_is_read(tmp_path: Path, make: Make) -> None:
    folder = tmp_path / "mein Ordner"
    folder.mkdir()
    (folder / "plain.txt").write_text("A plain text about herons.")
    (folder / "notes.md").write_text("# Owls\n\nA note about owls.")
    (folder / "page.html").write_text("<html><head><title>t</title><script>var x</script></head><body><nav>menu</nav>"
                                      "<main><p>A page about otters &amp; eels.</p></main></body></html>")
    (folder / "paper.pdf").write_bytes(pdf_bytes("A paper about newts"))
    from docx import Document

    letter = Document()
    letter.add_paragraph("A letter about toads.")
    letter.add_table(1, 2).rows[0].cells[1].text = "in a table"
    letter.save(str(folder / "letter.docx"))
    (folder / "code.py").write_text("def moth():\n\treturn 'code about moths'\n")
    (folder / "rows.jsonl").write_text('{"text": "A row about wasps."}\n\n{"text": "Another about bees."}\n')
    with gzip.open(folder / "packed.jsonl.gz", "wt") as packed:
        packed.write('{"text": "A packed row about ants."}\n')
    (folder / "list.json").write_text('[{"text": "A listed row about ticks."}]')
    (folder / "table.csv").write_text('id,text\n1,"A cell about mice, with\na line end"\n')
    pq.write_table(pa.table({"text": ["A parquet row about rats."], "n": [1]}), folder / "data.parquet")
    (folder / "Ünïcödé ☃ 名.txt").write_text("A snowman's file.")
    (folder / "bom.txt").write_bytes(b"\xef\xbb\xbfMarked text.")
    (folder / "wide.txt").write_bytes("Sixteen bits wide: é.".encode("utf-16"))
    (folder / "latin.txt").write_bytes("Voilà du texte déjà écrit à Genève.".encode("latin-1"))
    (folder / "mojibake.txt").write_text("He said itâ€™s a cafÃ©.")
    (folder / "crlf.txt").write_bytes(b"one line\r\nanother\x00\x07 line".replace(b"\x00", b""))
    (folder / ".hidden.txt").write_text("not wanted")
    rows = {row["origin"]: row for row in everything(make(folder))}
    texts = {origin.removeprefix("file:mein Ordner/"): row["text"] for origin, row in rows.items()}
    assert texts["plain.txt"] == "A plain text about herons."
    assert texts["notes.md"] == "# Owls\n\nA note about owls."
    assert "otters & eels" in texts["page.html"]
    assert "var x" not in texts["page.html"]
    assert texts["paper.pdf"] == "A paper about newts"
    assert "toads" in texts["letter.docx"]
    assert "in a table" in texts["letter.docx"]
    assert texts["code.py"] == "def moth():\n\treturn 'code about moths'\n"
    assert texts["rows.jsonl#row=1"] == "A row about wasps."
    assert texts["rows.jsonl#row=3"] == "Another about bees."
    assert texts["packed.jsonl.gz#row=1"] == "A packed row about ants."
    assert texts["list.json#row=1"] == "A listed row about ticks."
    assert texts["table.csv#row=3"] == "A cell about mice, with\na line end"
    assert texts["data.parquet#row=1"] == "A parquet row about rats."
    assert texts["Ünïcödé ☃ 名.txt"] == "A snowman's file."
    assert texts["bom.txt"] == "Marked text."
    assert texts["wide.txt"] == "Sixteen bits wide: é."
    assert texts["latin.txt"] == "Voilà du texte déjà écrit à Genève."
    assert texts["mojibake.txt"] == "He said it’s a café."
    assert texts["crlf.txt"] == "one line\nanother line"
    assert len(texts) == 18
    assert all(row["keep"] for row in rows.values())
    assert rows["file:mein Ordner/code.py"]["format"] == "code"
    assert len({row["id"] for row in rows.values()}) == len(rows)


def test_junk_is_reported_and_skipped(tmp_path: Path, make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    (folder / "good.txt").write_text("A good file.")
    (folder / "empty.txt").touch()
    (folder / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(range(256)) * 20)
    (folder / "noise.txt").write_bytes(bytes(range(256)) * 40)
    (folder / "broken.pdf").write_bytes(b"%PDF-1.7 and then nothing of the kind")
    (folder / "broken.docx").write_bytes(b"PK\x03\x04 not really")
    (folder / "broken.parquet").write_bytes(b"PAR1 not really")
    (folder / "broken.jsonl.gz").write_bytes(gzip.compress(b'{"text": "x"}\n' * 1000)[:40])
    (folder / "half.jsonl").write_text('{"text": "A good row."}\n{"text": \n["list"]\n{"text": 7}\n{"other": "x"}\n')
    dataset = make(folder)
    stages = dataset.card["bottega"]["stages"]
    assert stages["skipped"] == {"binary": 2, "empty": 1, "malformed": 3, "no-text": 1, "unreadable": 4}
    assert sorted([*dataset.texts("train"), *dataset.texts("validation")]) == ["A good file.", "A good row."]
    said = capsys.readouterr().err
    assert "half.jsonl:2" in said
    assert "broken.pdf" in said
    assert "it has: other" in said
    assert stages["read"] == stages["rows"] + 11


def test_chats_and_preferences(tmp_path: Path, make: Make) -> None:
    chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    rows = [{"messages": chat}, {"prompt": "Q?", "completion": "A."},
            {"instruction": "Add", "input": "1 and 2", "output": "3"}]
    (tmp_path / "chat.jsonl").write_text("\n".join(map(json.dumps, rows)))
    dataset = make(tmp_path / "chat.jsonl", validation=0.4)
    assert dataset.kind == "chat"
    found = {row["id"]: row["messages"] for split in ("train", "validation") for row in dataset.rows(split)}
    assert sorted(found.values(), key=str) == sorted([
        chat, [{"role": "user", "content": "Q?"}, {"role": "assistant", "content": "A."}],
        [{"role": "user", "content": "Add\n\n1 and 2"}, {"role": "assistant", "content": "3"}]], key=str)
    pair = [{"prompt": "Q?", "chosen": "yes", "rejected": "no"}, {"messages": chat[:1], "chosen": "a", "rejected": "b"},
            {"chosen": [*chat[:1], {"role": "assistant", "content": "good"}],
             "rejected": [*chat[:1], {"role": "assistant", "content": "bad"}]}]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, pair)))
    dataset = make(tmp_path / "pairs.jsonl", validation=0.4)
    assert dataset.kind == "preference"
    got = sorted((row["chosen"], row["rejected"]) for split in ("train", "validation") for row in dataset.rows(split))
    assert got == [("a", "b"), ("good", "bad"), ("yes", "no")]


@pytest.mark.parametrize("row", [
    {"messages": []}, {"messages": [{"role": "boss", "content": "x"}]}, {"messages": [{"role": "user"}]},
    {"messages": [{"role": "user", "content": "no answer"}]}, {"chosen": "a", "rejected": "b"}, {"messages": "text"}])
def test_malformed_conversations_name_their_line(row: dict[str, object], tmp_path: Path, make: Make) -> None:
    (tmp_path / "bad.jsonl").write_text("\n" + json.dumps(row) + "\n")
    with pytest.raises(DataError, match=r"bad\.jsonl:2") as caught:
        make(tmp_path / "bad.jsonl")
    assert caught.value.fix


def test_nothing_to_read_is_a_clear_error(tmp_path: Path, make: Make) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="hold no files"):
        make(tmp_path / "empty")
    with pytest.raises(InputError, match="not there"):
        make(tmp_path / "missing")
    with pytest.raises(InputError, match="did you mean 'python-docs'"):
        make("python-dcos")
    (tmp_path / "short.txt").write_text("some words here")
    with pytest.raises(DataError, match=r"all 1 rows were dropped: tiny 1") as caught:
        make(tmp_path / "short.txt", rules={"tiny": "words < 50"})
    assert "data.rules.tiny=null" in str(caught.value)
    (tmp_path / "table.csv").write_text("title,body\na,b\n")
    with pytest.raises(DataError, match=r"title, body .name the text column in data\.text_field"):
        make(tmp_path / "table.csv")
    (tmp_path / "chat.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    with pytest.raises(DataError, match="mix kinds"):
        make(tmp_path / "short.txt", tmp_path / "chat.jsonl")


def test_a_hub_source_without_the_library_says_what_to_install(make: Make) -> None:
    try:
        import datasets  # noqa: F401
    except ImportError:
        with pytest.raises(MissingExtraError, match=r"bottega\[hub\]"):
            make("hf:owner/name")
    else:
        pytest.skip("the datasets library is installed")


def test_a_huge_line_is_divided_or_reported(tmp_path: Path, make: Make) -> None:
    folder = tmp_path / "lines"
    folder.mkdir()
    (folder / "spaces.txt").write_text(prose(1, 60_000).replace("\n", " "))
    (folder / "solid.txt").write_text("x" * (PART * 3))
    with (folder / "long.jsonl").open("w") as file:
        file.write('{"text": "' + "y" * (17 << 20) + '"}\n{"text": "A short row after a long one."}\n')
    dataset = make(folder)
    rows = everything(dataset)
    assert all(len(row["text"]) <= PART for row in rows)
    parts = [row for row in rows if row["document"] == "file:lines/spaces.txt"]
    assert len(parts) > 3
    assert all(row["keep"] for row in parts)
    assert {row["reason"] for row in rows if "solid" in row["document"]} <= {"too-long", "exact-duplicate"}
    assert dataset.card["bottega"]["stages"]["skipped"] == {"too-long": 1}
    assert any("after a long one" in row["text"] for row in rows)


@given(st.lists(st.text(alphabet="ab \n.", max_size=40), max_size=8), st.integers(4, 30))
def test_cut_loses_nothing(blocks: list[str], size: int) -> None:
    parts = list(cut(iter(blocks), size))
    assert "".join(parts) == "".join(blocks)
    assert all(0 < len(part) <= size for part in parts)


@example("\x8dÂ\x91", False)  # a control that hid a wrong encoding from the first look
@given(st.text(), st.booleans())
def test_normalise_is_idempotent(text: str, exact: bool) -> None:
    once = normalise(text, exact=exact)
    assert normalise(once, exact=exact) == once
    once.encode("utf-8")
