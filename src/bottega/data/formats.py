"""Files to texts: plain text in any common encoding, HTML, PDF, Word. `bottega data prepare` reads through here.

Plain text is streamed: a file of any size is read in blocks and cut into parts of at most `PART` characters at a
blank line, a line end or a space, so that memory does not depend on the size of a file or of a line.
"""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator
from pathlib import Path

PART = 1 << 16          # characters: a longer document becomes several rows, which share their document's split
WHOLE_FILE = 64 << 20   # bytes: formats that must be parsed as a whole (HTML, PDF, Word, JSON) are skipped above this
_BLOCK = 1 << 20
_SAMPLE = 1 << 20
_BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
         (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_CONTROL_BYTES = bytes(set(range(32)) - {7, 8, 9, 10, 11, 12, 13, 27})
_CUTS = (re.compile(r"\n\s*\n"), re.compile(r"\n"), re.compile(r"[.!?。！？]\s*"), re.compile(r"\s"))
MARKUP = frozenset((".html", ".htm", ".xhtml"))
DOCUMENTS = MARKUP | {".pdf", ".docx"}


class Unreadable(Exception):
    """A file or a row that is left out; `reason` is counted in the card, `detail` is told to the user."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


def read_parts(path: Path) -> Iterator[str]:
    """Yield the text of one file, in parts of at most `PART` characters.

    Raises:
        Unreadable: binary, corrupt, encrypted, too large to parse, or not readable at all.
    """
    suffix = path.suffix.lower()
    try:
        if suffix in DOCUMENTS:
            size = path.stat().st_size
            if size > WHOLE_FILE:
                raise Unreadable("too-large", f"{size >> 20} MB; {suffix} files are read up to {WHOLE_FILE >> 20} MB")
            text = _html(path) if suffix in MARKUP else _pdf(path) if suffix == ".pdf" else _docx(path)
            yield from cut(iter([text]))
        else:
            yield from cut(read_text(path))
    except OSError as error:
        raise Unreadable("unreadable", error.strerror or str(error)) from error


def encoding_of(sample: bytes) -> str:
    """Return the encoding of a file judged by its beginning: a byte order mark, UTF-8, or Windows-1252.

    A few broken bytes among good multi-byte characters do not make a UTF-8 file Windows-1252.

    Raises:
        Unreadable: the bytes are not text.
    """
    for mark, name in _BOMS:
        if sample.startswith(mark):
            return name
    head = sample[:8192]
    if b"\0" in head:
        for name, zeros in (("utf-16-le", head[1::2]), ("utf-16-be", head[::2])):
            if len(head) >= 4 and zeros.count(0) > 0.6 * len(zeros) and head.count(0) < 0.6 * len(head):
                return name
        raise Unreadable("binary", "it holds NUL bytes: not a text file")
    if len(head) - len(head.translate(None, _CONTROL_BYTES)) > 0.05 * len(head):
        raise Unreadable("binary", "it holds control characters: not a text file")
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text = decoder.decode(sample)  # not final: a character cut off at the end of the sample is no fault
    broken = text.count("\ufffd") - sample.count(b"\xef\xbf\xbd")
    if broken <= 0 or broken * 4 < len(re.findall("[^\x00-\x7f\ufffd]", text)):
        return "utf-8"
    if broken > 0.3 * len(text):
        raise Unreadable("binary", "most of its bytes are in no known text encoding")
    return "cp1252"


def read_text(path: Path) -> Iterator[str]:
    """Yield the decoded text of a file in blocks; bytes that cannot be decoded become U+FFFD.

    Raises:
        Unreadable: the file is not text.
    """
    with path.open("rb") as file:
        sample = file.read(_SAMPLE)
        decoder = codecs.getincrementaldecoder(encoding_of(sample))("replace")
        block = sample
        while block:
            yield decoder.decode(block)
            block = file.read(_BLOCK)
        yield decoder.decode(b"", final=True)


def cut(blocks: Iterator[str], size: int = PART) -> Iterator[str]:
    """Yield the joined blocks again in parts of at most `size` characters.

    A cut falls, in this order, after a blank line, a line end, a sentence or a space in the last half of a part; where
    there is none the text is cut at `size`, and the rule `too-long` will tag it.
    """
    buffer = ""
    for block in blocks:
        buffer += block
        start = 0
        while len(buffer) - start > size:
            end = _cut_position(buffer, start, size)
            yield buffer[start:end]
            start = end
        buffer = buffer[start:]
    if buffer:
        yield buffer


def _cut_position(text: str, start: int, size: int) -> int:
    for pattern in _CUTS:
        for low in (start + size - size // 8, start + size // 2):  # near the end first: most cuts are found there
            ends = [found.end() for found in pattern.finditer(text, low, start + size)]
            if ends:
                return ends[-1]
    return start + size


def _html(path: Path) -> str:
    from resiliparse.extract.html2text import extract_plain_text
    from resiliparse.parse.encoding import detect_encoding
    from resiliparse.parse.html import HTMLTree

    data = path.read_bytes()
    if b"\0" in data[:8192] and not data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise Unreadable("binary", "it holds NUL bytes: not an HTML file")
    try:
        encoding = encoding_of(data[:_SAMPLE])
        if encoding == "cp1252":
            encoding = detect_encoding(data) or encoding
        tree = HTMLTree.parse(data.decode(encoding, "replace"))
        text = str(extract_plain_text(tree, main_content=True, alt_texts=False))
        return text if text.strip() else str(extract_plain_text(tree, main_content=False, alt_texts=False))
    except (ValueError, RuntimeError, LookupError) as error:
        raise Unreadable("unreadable", f"HTML: {error}") from error


def _pdf(path: Path) -> str:
    import logging

    from pypdf import PdfReader

    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # it reports each fault it works around
    try:
        reader = PdfReader(io.BytesIO(path.read_bytes()))
        if reader.is_encrypted and not reader.decrypt(""):
            raise Unreadable("unreadable", "the PDF is encrypted")
        pages = [page.extract_text() for page in reader.pages]
    except Unreadable:
        raise
    except Exception as error:  # pypdf raises dozens of kinds on broken files
        raise Unreadable("unreadable", f"PDF: {type(error).__name__}: {error}") from error
    text = "\n\n".join(page.strip() for page in pages)
    if pages and not text.strip():
        raise Unreadable("no-text", f"{len(pages)} pages without text: scanned images?")
    return text


def _docx(path: Path) -> str:
    from docx import Document
    from docx.table import Table

    try:
        blocks = []
        for item in Document(str(path)).iter_inner_content():
            if isinstance(item, Table):
                blocks.append("\n".join(" | ".join(cell.text for cell in row.cells) for row in item.rows))
            else:
                blocks.append(item.text)
        return "\n\n".join(block for block in blocks if block.strip())
    except Exception as error:  # a broken archive or XML raises many kinds
        raise Unreadable("unreadable", f"Word: {type(error).__name__}: {error}") from error
