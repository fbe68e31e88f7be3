"""Finished parts of long work: kept at once, read back without a torn end, refused under other facts."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bottega.core.errors import CorruptError, InputError
from bottega.core.journal import Journal, differences, whole_lines

FACTS = {"seed": 1, "teacher": "m"}


def written(path: Path, *parts: object) -> bytes:
    journal = Journal(path, FACTS, resume=False)
    for part in parts:
        journal.add(part)
        assert json.loads(path.read_bytes().splitlines()[-1]) == part  # on the disk already
    journal.close()
    return path.read_bytes()


@given(st.lists(st.text(), max_size=5), st.integers(0, 200))
def test_whatever_is_cut_off_the_whole_lines_stay(texts: list[str], cut: int) -> None:
    lines = [json.dumps({"text": text}, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n" for text in texts]
    data = b"".join(lines)[:cut]
    values, size = whole_lines(data)
    assert values == [{"text": text} for text in texts[:len(values)]]
    assert size == sum(map(len, lines[:len(values)])) <= len(data)
    assert len(values) == len(texts) or size + len(lines[len(values)]) > len(data)


def test_a_torn_last_line_is_dropped_and_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "journal"
    whole = written(path, {"n": 1}, {"n": "\ud83d"}, {"n": 3})
    for cut in (1, 5):
        path.write_bytes(whole[:-cut])
        journal = Journal(path, FACTS, resume=True)
        assert journal.parts == [{"n": 1}, {"n": "\ud83d"}]
        journal.add({"n": 3})
        journal.close()
        assert path.read_bytes() == whole


def test_a_damaged_line_before_the_last_is_named(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.write_bytes(written(path, {"n": 1}, {"n": 2}).replace(b'{"n":1}', b'{"n"?1}'))
    with pytest.raises(CorruptError, match="line 2 is damaged"):
        Journal(path, FACTS, resume=True)


def test_nothing_is_lost_or_mixed(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    kept = written(path, {"n": 1})
    with pytest.raises(InputError, match="holds 1 finished parts of a run that was stopped") as caught:
        Journal(path, FACTS, resume=False)
    assert "add --resume" in str(caught.value)
    with pytest.raises(InputError, match="not the run that was stopped: seed was 1, is 2; url was None, is 'u'"):
        Journal(path, {**FACTS, "seed": 2, "url": "u"}, resume=True)
    first = Journal(path, FACTS, resume=True)
    assert first.count() == 1
    with pytest.raises(InputError, match="another process is at work"):
        Journal(path, FACTS, resume=True)
    assert path.read_bytes() == kept
    first.remove()
    assert not path.exists()
    written(path)  # a run that was killed before its first part has nothing to lose
    Journal(path, {"seed": 5}, resume=False).close()
    assert path.read_bytes() == b'{"seed":5}\n'


FULL = """
import resource, sys
from pathlib import Path
from bottega.core.journal import Journal
journal = Journal(Path(sys.argv[1]), {"seed": 1, "teacher": "m"}, resume=True)
resource.setrlimit(resource.RLIMIT_FSIZE, (Path(sys.argv[1]).stat().st_size + 4,) * 2)
try:
    journal.add({"n": 2})
except OSError:
    print("told")
"""


def test_a_part_that_the_disk_takes_half_of_is_not_taken_as_kept(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    kept = written(path, {"n": 1})
    ran = subprocess.run([sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, check=True)
    assert ran.stdout == "told\n"
    assert path.read_bytes() == kept + b'{"n"'
    journal = Journal(path, FACTS, resume=True)
    assert journal.parts == [{"n": 1}]
    journal.close()


def test_differences_are_told_by_name() -> None:
    assert differences(FACTS, dict(FACTS)) == ""
    assert differences({"a": 1}, {"a": 2, "b": None}) == "a was 1, is 2"
