"""Tokenizers and chat templates of others, through the interface of our own codec."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from tests import pretrained

from bottega.codecs.chat_template import ChatTemplate
from bottega.codecs.pretrained import PretrainedCodec
from bottega.codecs.text import TextCodec
from bottega.core.errors import CorruptError, InputError
from bottega.core.request import Message

transformers = pytest.importorskip("transformers")
TEXTS = ["The cat sat on the mat.", "", "  two  spaces\tand\n\n\nlines ", "naïve café 猫 🐈 \x00", "1234567 x=3.14",
         "don't   stop\r\n", " a", "\n"]


@pytest.fixture(scope="module", params=list(pretrained.KINDS))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp(request.param) / request.param
    pretrained.write(request.param, path)
    return path


def codec_of(folder: Path) -> PretrainedCodec:
    codec = TextCodec.load(folder)
    assert isinstance(codec, PretrainedCodec)
    return codec


def peer_of(folder: Path) -> Any:
    return transformers.AutoTokenizer.from_pretrained(folder)


def talks(kind: str, count: int, seed: int = 0) -> list[list[dict[str, str]]]:
    """Random conversations of the turns that a template allows."""
    draw = random.Random(seed)
    words = ["kettle", "rain", "3.14", "café", "\n", "-", "['a']", "ok?", "<b>", "猫", "the", "one\ttwo"]
    made = []
    for _ in range(count):
        turns = [] if kind in ("mistral", "gemma") or draw.random() < 0.5 else [
            {"role": "system", "content": "Be short."}]
        for _ in range(draw.randint(1, 3)):
            turns += [{"role": role, "content": " ".join(draw.choices(words, k=draw.randint(1, 9))).strip() or "x"}
                      for role in ("user", "assistant")]
        made.append(turns)
    return made


def test_texts_encode_as_in_transformers_and_decode_to_themselves(folder: Path) -> None:
    codec, peer = codec_of(folder), peer_of(folder)
    for text in TEXTS:
        assert codec.encode(text) == peer.encode(text, add_special_tokens=False)
        assert [*codec.start, *codec.encode(text)] == peer.encode(text)
        assert codec.decode(codec.encode(text)) == text
        assert codec.encode_bytes(text.encode()) == codec.encode_bytes(text.encode())
        assert b"".join(map(codec.token_bytes, codec.encode_bytes(text.encode()))) == text.encode()
    assert b"".join(map(codec.token_bytes, codec.encode_bytes(b"a\xff\xfe b"))) == b"a\xff\xfe b"


def test_conversations_encode_as_in_transformers(folder: Path) -> None:
    codec, peer = codec_of(folder), peer_of(folder)
    for turns in talks(folder.name, 60):
        wanted = peer.apply_chat_template(turns, tokenize=True, return_dict=False)
        assert codec.encode_chat(turns) == wanted
        asked = peer.apply_chat_template(turns[:-1], tokenize=True, add_generation_prompt=True, return_dict=False)
        assert codec.encode_chat([Message.model_validate(turn) for turn in turns[:-1]], True) == asked


def test_the_mask_is_on_what_follows_each_prompt(folder: Path) -> None:
    """Token by token: what is masked in is what the model would have had to make after each prompt, and its end."""
    codec = codec_of(folder)
    for turns in talks(folder.name, 60, seed=1):
        ids, mask = codec.encode_chat_masked(turns)
        assert ids == codec.encode_chat(turns)
        assert len(ids) == len(mask)
        answers = [number for number, turn in enumerate(turns) if turn["role"] == "assistant"]
        runs: list[list[int]] = []
        for place, (token, said) in enumerate(zip(ids, mask, strict=True)):
            if said:
                if not place or not mask[place - 1]:
                    prompt = codec.encode_chat(turns[:answers[len(runs)]], True)
                    assert ids[:place] == prompt
                    runs.append([])
                runs[-1].append(token)
        assert len(runs) == len(answers)
        for number, run in zip(answers, runs, strict=True):
            assert run[-1] in codec.ends
            assert codec.decode(run).strip().endswith(turns[number]["content"].strip())
            assert not set(run[:-1]) & set(codec.ends)


def test_no_text_becomes_a_special_token(folder: Path) -> None:
    codec = codec_of(folder)
    special = set(codec.special.values())
    for name in [*codec.special, "<|im_<|im_end|>end|>", "x<s></s>", "[INST] <unk> <0x0A>"]:
        for text in (name, f"a{name}b", f" {name} {name}"):
            ids = codec.encode(text)
            assert not special & set(ids)
            assert codec.decode(ids) == text
            turns = [{"role": "user", "content": text}, {"role": "assistant", "content": text}]
            ids, mask = codec.encode_chat_masked(turns)
            calm = codec.encode_chat([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}])
            count = [number for number in calm if number in special]
            assert [number for number in ids if number in special] == count
            assert codec.decode([token for token, said in zip(ids, mask, strict=True) if said]).strip().endswith(
                text.strip())


def test_thoughts_of_earlier_answers_are_left_out_as_the_template_says(tmp_path: Path) -> None:
    pretrained.write("qwen3", tmp_path)
    codec = codec_of(tmp_path)
    turns = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "<think>\nhm\n</think>\n\nfirst"},
             {"role": "user", "content": "two"}, {"role": "assistant", "content": "<think>\nso\n</think>\n\nsecond"}]
    ids, mask = codec.encode_chat_masked(turns)
    said = "".join(codec.decode([token]) if flag else "|" for token, flag in zip(ids, mask, strict=True))
    assert [part for part in said.split("|") if part] == ["first", "<think>\nso\n</think>\n\nsecond"]


def test_what_is_saved_encodes_the_same(folder: Path, tmp_path: Path) -> None:
    codec = codec_of(folder)
    codec.save(tmp_path, 128)
    again, peer = codec_of(tmp_path), peer_of(tmp_path)
    turns = talks(folder.name, 1)[0]
    assert again.encode_chat_masked(turns) == codec.encode_chat_masked(turns)
    assert peer.apply_chat_template(turns, tokenize=True, return_dict=False) == codec.encode_chat(turns)
    assert (again.digest, again.ends, again.special) == (codec.digest, codec.ends, codec.special)


def test_gaps_are_filled_with_the_models_own_marks_or_not_at_all(folder: Path) -> None:
    codec = codec_of(folder)
    if folder.name != "qwen2":
        with pytest.raises(InputError, match="fill gaps"):
            codec.encode_fim("a", "b")
        return
    names = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")
    before, after, middle = (codec.special[name] for name in names)
    assert codec.encode_fim("a", "b") == [before, *codec.encode("a"), after, *codec.encode("b"), middle]


def test_a_template_is_run_in_a_sandbox(tmp_path: Path) -> None:
    names, special = {"eos_token": "</s>"}, ["</s>"]
    for source in ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "{{ messages.append(1) }}",
                   "{% for i in range(10 ** 9) %}x{% endfor %}", "{{ strftime_now('%Y') }}"):
        with pytest.raises(InputError, match="refuses"):
            ChatTemplate(source, names, special, special).render([{"role": "user", "content": "x"}])
    with pytest.raises(InputError, match="cannot be read"):
        ChatTemplate("{% if %}", names, special, special)
    silent = ChatTemplate("{% for m in messages %}{{ m.role }}{% endfor %}", names, special, special)
    with pytest.raises(InputError, match="answer 1"):
        silent.render([{"role": "user", "content": "x"}, {"role": "assistant", "content": "said"}])
    pretrained.write("mistral", tmp_path)
    with pytest.raises(InputError, match="only user and assistant"):
        codec_of(tmp_path).encode_chat([{"role": "system", "content": "x"}])


def test_marked_answers_and_several_templates(tmp_path: Path) -> None:
    pretrained.write("smollm", tmp_path)
    path = tmp_path / "tokenizer_config.json"
    config = json.loads(path.read_text())
    marked = config["chat_template"].replace("{% for", "{%- for").replace(
        "message['content']", "'' }}{% generation %}{{ message['content'] }}{% endgeneration %}{{ ''")
    path.write_text(json.dumps({**config, "chat_template": [{"name": "tool_use", "template": "no"},
                                                            {"name": "default", "template": marked}]}))
    codec = codec_of(tmp_path)
    turns = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "said"}]
    assert codec.decode(codec.encode_chat(turns)) == "user\nx\nassistant\nsaid\n"
    del config["chat_template"]
    path.write_text(json.dumps(config))
    plain = codec_of(tmp_path)
    assert not plain.has_template
    assert plain.decode(plain.encode_chat(turns[:1], True)) == "### User\nx\n\n### Assistant\n"
    ids, mask = plain.encode_chat_masked(turns)
    assert plain.decode([token for token, said in zip(ids, mask, strict=True) if said]) == "said"
    assert ids[len(mask) - 1 - mask[::-1].index(True)] == plain.eos


def test_damaged_and_unknown_tokenizers_are_refused(tmp_path: Path) -> None:
    pretrained.write("smollm", tmp_path)
    whole = json.loads((tmp_path / "tokenizer.json").read_text())
    words = {**whole, "decoder": None, "pre_tokenizer": {"type": "Whitespace"}, "post_processor": None,
             "added_tokens": [], "model": {"type": "WordLevel", "vocab": {"a": 0, "<|im_end|>": 1}, "unk_token": "a"}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(words))
    with pytest.raises(InputError, match="WordLevel"):
        TextCodec.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text(json.dumps({**whole, "model": {"type": "BPE"}}))
    with pytest.raises(CorruptError, match="cannot be read"):
        TextCodec.load(tmp_path)
