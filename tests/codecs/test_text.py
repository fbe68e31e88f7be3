"""The text codec against its promises, and against transformers reading the same folder."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bottega.codecs.text import NAMES, SPARES, TextCodec, reserved_string
from bottega.core.errors import CorruptError, DataError, InputError, RecipeError
from bottega.core.request import Message

CORPUS = [
    "The quick brown fox jumps over the lazy dog. It's the dog's day, they'll say.\n\n",
    "def area(r: float) -> float:\n    return 3.14159 * r ** 2\n\n\nclass Circle:\n\tpass\r\n",
    "Élan vital, naïve façade; 東京は日本の首都です。 Привет, мир! 🙂👩‍👩‍👧 12345 67,890\n",
    "<|bos|> is written here, and <|end|> too, as any document may.\n",
] * 20
SIZE = 420
FRAGMENTS = [*map(reserved_string, NAMES), "<|", "|>", "<|en", "d|>", "<|end|", "|end|>", "<|assistant", "end", " ",
             "\n"]
CHAT = [
    {"role": "system", "content": " Be kind.\n"}, {"role": "user", "content": "Hi  "},
    {"role": "assistant", "content": "\n\tHello\n\nyou 🙂"}, {"role": "user", "content": ""},
    {"role": "tool", "content": "{\"a\": 1}"}, {"role": "assistant", "content": "'s all."},
]


@pytest.fixture(scope="module")
def codec() -> TextCodec:
    return TextCodec.train(iter(CORPUS), SIZE)


@pytest.fixture(scope="module")
def folder(codec: TextCodec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("codec")
    codec.save(path, context=128)
    return path


@given(st.text())
@settings(max_examples=300, deadline=None)
@example("<|end|>")
@example("\r\n \n\x00\x7f　 a")
def test_text_round_trips(codec: TextCodec, text: str) -> None:
    ids = codec.encode(text)
    assert codec.decode(ids) == text
    assert b"".join(map(codec.token_bytes, ids)) == text.encode()


@given(st.binary())
@settings(max_examples=300, deadline=None)
@example(b"\xff\xfe ok \xed\xa0\x80 \xf0\x9f\x99")
def test_bytes_round_trip(codec: TextCodec, data: bytes) -> None:
    assert codec.decode_bytes(codec.encode_bytes(data)) == data


@given(st.text())
@settings(max_examples=50, deadline=None)
def test_bytes_of_a_text_encode_as_the_text(codec: TextCodec, text: str) -> None:
    assert codec.encode_bytes(text.encode()) == codec.encode(text)


@given(st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=3)), max_size=12).map("".join))
@settings(max_examples=300, deadline=None)
def test_no_text_reaches_a_reserved_id(codec: TextCodec, text: str) -> None:
    reserved = set(codec.special.values())
    assert not reserved & set(codec.encode(text))
    assert not reserved & set(codec.encode_bytes(text.encode()))
    ids, _ = codec.encode_chat_masked([{"role": "user", "content": text}])
    assert [number for number in ids if number in reserved] == [codec.bos, codec.special["user"], codec.end_of_turn]


def test_half_a_surrogate_pair_is_no_crash(codec: TextCodec) -> None:
    assert codec.decode(codec.encode("a\ud800b")).startswith("a")
    assert codec.encode_batch(["fine", "\udfff"])[0] == codec.encode("fine")
    assert TextCodec.train(["a\ud800b" * 9], 400).vocab_size == 400


def test_every_id_is_used_or_reserved_and_merges_pay(codec: TextCodec) -> None:
    assert codec.vocab_size == SIZE
    assert sorted(codec.special.values()) == list(range(SIZE - len(NAMES) - SPARES, SIZE))
    assert len({codec.token_bytes(n) for n in range(SIZE - len(codec.special))}) == SIZE - len(codec.special)
    assert all(codec.token_bytes(n) == b"" for n in codec.special.values())
    assert codec.decode([codec.bos, *codec.encode("x"), codec.eos]) == "x"
    assert len(codec.encode(CORPUS[0])) < len(CORPUS[0]) / 2


@pytest.mark.parametrize("texts", [["a"], ["Привет, мир"], ["東京"], ["🙂"]])
def test_a_tiny_text_fills_the_size_with_spares(texts: list[str]) -> None:
    codec = TextCodec.train(texts, 1000)
    assert codec.vocab_size == 1000
    assert max(codec.special.values()) == 999
    assert codec.decode(codec.encode("Ünïcode 東京 🙂")) == "Ünïcode 東京 🙂"


def test_training_reads_a_stream_and_is_the_same_in_every_process(codec: TextCodec, tmp_path: Path) -> None:
    program = (
        "import sys, json, pathlib\n"
        "from bottega.codecs.text import TextCodec\n"
        "texts = json.loads(pathlib.Path(sys.argv[1]).read_text())\n"
        "print(TextCodec.train((t for t in texts), 420).digest)\n")
    (tmp_path / "texts.json").write_text(json.dumps(CORPUS))
    for seed, threads in (("1", "1"), ("2", "4")):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "RAYON_NUM_THREADS": threads,
                       "TOKENIZERS_PARALLELISM": "true"}
        done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "texts.json")], env=environment,
                              capture_output=True, text=True, check=True)
        assert done.stdout.strip() == codec.digest


def test_save_and_load_are_inverse(codec: TextCodec, folder: Path, tmp_path: Path) -> None:
    again = TextCodec.load(folder)
    assert (again.digest, again.special, again.vocab_size) == (codec.digest, codec.special, codec.vocab_size)
    assert again.encode_batch(CORPUS[:4]) == codec.encode_batch(CORPUS[:4])
    again.save(tmp_path)
    assert (tmp_path / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()


def test_transformers_reads_the_folder_the_same(codec: TextCodec, folder: Path) -> None:
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(folder)
    assert (theirs.bos_token_id, theirs.eos_token_id, theirs.pad_token_id, theirs.unk_token_id) == (
        codec.bos, codec.eos, codec.pad, codec.unk)
    assert len(theirs) == codec.vocab_size
    assert theirs.model_max_length == 128
    draw = random.Random(0)
    letters = "aé東🙂 \n\t\r.,'12_-(<>|)sdtlABС'\u200d\u0301"
    texts = ["".join(draw.choices(letters, k=draw.randrange(40))) for _ in range(500)] + CORPUS[:3]
    for text in texts:
        assert theirs(text).input_ids == codec.encode(text)
        assert theirs.decode(codec.encode(text), clean_up_tokenization_spaces=False) == text
    for prompt in (False, True):
        ids = theirs.apply_chat_template(CHAT, add_generation_prompt=prompt, return_dict=False)
        assert ids == codec.encode_chat(CHAT, add_generation_prompt=prompt)
    assert theirs.convert_tokens_to_ids("<|fim_middle|>") == codec.special["fim_middle"]


def test_the_template_refuses_an_unknown_role(folder: Path) -> None:
    from transformers import AutoTokenizer

    with pytest.raises(Exception, match="unknown role robot"):
        AutoTokenizer.from_pretrained(folder).apply_chat_template([{"role": "robot", "content": "x"}])


def test_the_mask_covers_what_the_assistant_says_and_its_end(codec: TextCodec) -> None:
    ids, mask = codec.encode_chat_masked(CHAT)
    assert ids == codec.encode_chat(CHAT)
    expected = [*codec.encode(CHAT[2]["content"]), codec.end_of_turn, *codec.encode(CHAT[5]["content"]),
                codec.end_of_turn]
    assert [number for number, said in zip(ids, mask, strict=True) if said] == expected
    assert codec.encode_chat([Message.model_validate(turn) for turn in CHAT]) == ids
    assert codec.encode_chat([]) == [codec.bos]


def test_fill_in_the_middle(codec: TextCodec) -> None:
    prompt = codec.encode_fim("def f(x):\n", "\n    return y")
    document = codec.encode_fim_document("def f(x):\n", "    y = x", "\n    return y")
    assert document == [*prompt, *codec.encode("    y = x"), codec.eos]
    assert prompt[0] == codec.bos
    assert prompt[-1] == codec.special["fim_middle"]


def test_errors_name_the_value_and_the_fix(codec: TextCodec, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="vocab_size 270"):
        TextCodec.train(["a"], 270)
    with pytest.raises(DataError, match="no text"):
        TextCodec.train(iter(["", ""]), 600)
    with pytest.raises(InputError, match="robot"):
        codec.encode_chat([{"role": "robot", "content": "x"}])
    with pytest.raises(InputError, match="NoneType"):
        codec.encode_chat([{"role": "user", "content": None}])
    with pytest.raises(InputError, match=f"id {SIZE}"):
        codec.token_bytes(SIZE)
    with pytest.raises(InputError, match=r"tokenizer\.json"):
        TextCodec.load(tmp_path)
    for broken in ("{}", "[]", json.dumps({"added_tokens": [], "model": {}}), "not json"):
        (tmp_path / "tokenizer.json").write_text(broken)
        with pytest.raises(CorruptError, match=r"tokenizer\.json"):
            TextCodec.load(tmp_path)


def test_real_text_in_a_stream(real_data: Path) -> None:
    texts = (json.loads(line)["text"] if line.startswith("{") else line
             for path in sorted(real_data.glob("tiny_shakespeare/*")) if path.suffix in (".txt", ".jsonl")
             for line in path.read_text(encoding="utf-8").splitlines(keepends=True))
    held = list(texts)
    if not held:
        pytest.skip("no tiny_shakespeare text in BOTTEGA_DATA")
    codec = TextCodec.train(iter(held), 2048)
    ids = codec.encode_batch(held)
    assert [codec.decode(row) for row in ids] == held
    assert sum(map(len, held)) / sum(map(len, ids)) > 3
