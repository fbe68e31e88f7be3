import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from data_helpers import prose

from bottega.core.errors import InputError
from bottega.data.builtin import BUILTIN
from bottega.data.dataset import Dataset
from bottega.data.pack import Shards, pack
from bottega.data.record import Record

Make = Callable[..., Dataset]


def encode(texts: list[str]) -> list[list[int]]:
    """A codec of bytes: id 0 is bos."""
    return [[byte + 1 for byte in text.encode()] for text in texts]


@pytest.mark.parametrize(("vocab_size", "dtype"), [(257, np.uint16), (65536, np.uint16), (65537, np.uint32)])
def test_pack_round_trip(vocab_size: int, dtype: type, tmp_path: Path, home: Path, make: Make) -> None:
    rows = [prose(seed, 30) + " é☃" for seed in range(40)]
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps({"text": row}) for row in rows))
    dataset = make(tmp_path / "rows.jsonl", validation=0.2)
    shards = pack(dataset, encode, codec_digest="c", vocab_size=vocab_size, bos=0, home=home)
    for split in ("train", "validation"):
        tokens, starts = shards.tokens(split), shards.starts(split)
        assert tokens.dtype == dtype
        assert starts.dtype == np.int64
        assert (tokens[starts] == 0).all()
        texts = [bytes((part[1:] - 1).astype(np.uint8)).decode() for part in np.split(tokens, starts[1:])]
        assert texts == list(dataset.texts(split))
        assert shards.bytes(split) == sum(len(text.encode()) for text in texts) == len(tokens) - len(starts)
        assert shards.documents(split) == dataset.count(split) == len(starts)


def test_shards_are_reused_and_made_again_when_damaged(tmp_path: Path, home: Path, make: Make) -> None:
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps({"text": prose(seed, 30)}) for seed in range(9)))
    dataset = make(tmp_path / "rows.jsonl")
    calls: list[int] = []

    def counted(texts: list[str]) -> list[list[int]]:
        calls.append(len(texts))
        return encode(texts)

    def run(codec: str) -> Shards:
        return pack(dataset, counted, codec_digest=codec, vocab_size=300, bos=0, home=home)

    first = run("c")
    done = len(calls)
    assert run("c").digest == first.digest
    assert len(calls) == done
    assert run("other").path != first.path
    done = len(calls)
    path = first.path / "train.tokens"
    path.write_bytes(path.read_bytes()[:-2])
    assert run("c").digest == first.digest
    assert len(calls) > done


def test_ids_outside_the_vocabulary_are_refused(tmp_path: Path, home: Path, make: Make) -> None:
    (tmp_path / "a.txt").write_text(prose(1))
    dataset = make(tmp_path / "a.txt")
    with pytest.raises(InputError, match="vocabulary of 50"):
        pack(dataset, encode, codec_digest="c", vocab_size=50, bos=0, home=home)
    with pytest.raises(InputError, match="bos id 300"):
        pack(dataset, encode, codec_digest="c", vocab_size=300, bos=300, home=home)
    assert not [path for path in (home / "cache" / "tokens").iterdir() if (path / "manifest.json").exists()]


def test_an_empty_split_has_no_tokens(tmp_path: Path, home: Path, make: Make) -> None:
    (tmp_path / "a.txt").write_text("Few words.")
    shards = pack(make(tmp_path / "a.txt"), encode, codec_digest="c", vocab_size=300, bos=0, home=home)
    assert shards.tokens("validation").size == 0
    assert shards.starts("validation").size == 0
    assert shards.bytes("validation") == 0


@pytest.mark.parametrize("name", ["python-docs", "python-stdlib"])
def test_built_in_sources(name: str) -> None:
    records: list[Record] = list(BUILTIN[name]())
    assert len(records) > 200
    assert sum(len(record.text) for record in records) > 1_000_000
    assert len({record.origin for record in records}) == len(records)
    assert {record.licence for record in records} == {"PSF-2.0"}
    assert any("json" in record.origin for record in records)
    if name == "python-docs":
        page = next(record.text for record in records if record.origin.endswith("modules/json"))
        assert "json.dumps(obj, *, skipkeys=False" in page
        assert "Serialize ``obj`` to a JSON formatted ``str``." in page
    else:
        assert not any("/test" in record.origin or "idlelib" in record.origin for record in records)
