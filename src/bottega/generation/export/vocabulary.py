"""A codec's tokens for a GGUF file: byte-level BPE ("gpt2") or SentencePiece's BPE ("llama"), as llama.cpp cuts text.

llama.cpp knows expressions that cut text into pieces by name only, and joins SentencePiece's tokens by a score a token
instead of a list of merges. A tokenizer that it would not follow to the letter is refused, not written approximately.
"""

from __future__ import annotations

from typing import Any

from bottega.codecs.chat_template import ChatTemplate
from bottega.codecs.pretrained import PretrainedCodec
from bottega.codecs.text import CHAT_TEMPLATE, QWEN2_PIECES, TextCodec, reserved_string
from bottega.codecs.tokenizer_json import parts
from bottega.core.errors import InputError

_NORMAL, _UNKNOWN, _CONTROL, _USER, _UNUSED, _BYTE = 1, 2, 3, 4, 5, 6  # token types of the GGUF specification
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_PIECES = {  # expression → llama.cpp's name for it
    QWEN2_PIECES: "qwen2", QWEN2_PIECES.replace(r"|\p{N}|", r"|\p{N}{1,3}|", 1): "llama-bpe", _GPT2: "gpt-2"}


def template_of(codec: TextCodec) -> ChatTemplate:
    """Return a codec's chat template, whether it came with the model or is ours."""
    if isinstance(codec, PretrainedCodec):
        return codec.template
    names = {f"{name}_token": reserved_string(name) for name in ("bos", "eos", "pad", "unk")}
    return ChatTemplate(CHAT_TEMPLATE, names, [reserved_string(name) for name in codec.special],
                        [reserved_string("end"), names["eos_token"]])


def texts_of_special(codec: TextCodec) -> dict[int, str]:
    """Return the text of each special token."""
    if isinstance(codec, PretrainedCodec):
        return {number: text for text, number in codec.reserved.items()}
    return {number: reserved_string(name) for name, number in codec.special.items()}


def add_vocabulary(writer: Any, codec: TextCodec, size: int) -> list[str]:
    """Write a codec into a GGUF file and return what a reader should know.

    Args:
        writer: a `gguf.GGUFWriter`.
        codec: the model's.
        size: rows of the model's embedding; those beyond the codec's ids are unused.

    Raises:
        InputError: llama.cpp would cut text otherwise than this tokenizer does.
    """
    data = codec.data
    model = data["model"]
    special, added = texts_of_special(codec), {int(entry["id"]): entry for entry in data["added_tokens"]}
    names: dict[int, str] = {number: token for token, number in model["vocab"].items()} \
        if isinstance(model["vocab"], dict) else {}
    names |= {number: entry["content"] for number, entry in added.items()} | special
    tokens = [names.get(number, f"[PAD{number}]") for number in range(size)]
    kinds = [_UNUSED if number not in names else _CONTROL if number in special else
             _USER if number in added else _NORMAL for number in range(size)]
    unknown = codec.unk if "unk" in codec.special and codec.unk != codec.eos else None
    merges = [tuple(pair.split(" ")) if isinstance(pair, str) else tuple(pair) for pair in model.get("merges", [])]
    byte_level = not isinstance(codec, PretrainedCodec) or codec.byte_level
    changes = {part["type"] for part in parts(data.get("normalizer"))}
    if wrong := changes - ({"NFC"} if byte_level else {"Prepend", "Replace"}):
        raise InputError("llama.cpp does not change text as this tokenizer does before it is cut",
                         where=f"normalizer: {', '.join(sorted(wrong))}", fix="export with --to hf")
    if byte_level:
        writer.add_tokenizer_model("gpt2")
        name = _name_of_pieces(data)
        if model.get("ignore_merges") and name != "llama-bpe":
            raise InputError(f"llama.cpp joins pieces of a {name} tokenizer by merges only", where="ignore_merges",
                             fix="export with --to hf")
        writer.add_tokenizer_pre(name)
        writer.add_token_list(tokens)
        writer.add_token_types(kinds)
        writer.add_token_merges([" ".join(pair) for pair in merges])
    else:
        kinds = [_BYTE if names.get(number, "").startswith("<0x") and kind == _NORMAL else kind
                 for number, kind in enumerate(kinds)]
        if unknown is not None:
            kinds[unknown] = _UNKNOWN
        writer.add_tokenizer_model("llama")
        writer.add_tokenizer_pre("default")
        writer.add_token_list(tokens)
        writer.add_token_scores(_scores(tokens, model, merges))
        writer.add_token_types(kinds)
        assert isinstance(codec, PretrainedCodec)
        writer.add_add_space_prefix(codec.prefixes)
    writer.add_bos_token_id(codec.bos)
    writer.add_eos_token_id(codec.eos)
    writer.add_pad_token_id(codec.pad)
    if unknown is not None:
        writer.add_unk_token_id(unknown)
    if codec.end_of_turn != codec.eos:
        writer.add_eot_token_id(codec.end_of_turn)
    writer.add_add_bos_token(bool(codec.start))
    writer.add_add_eos_token(False)
    writer.add_chat_template(template_of(codec).source)
    return ["llama.cpp does not compose letters and accents (NFC) as the tokenizer does: send it composed text"] \
        if "NFC" in changes else []


def _name_of_pieces(data: dict[str, Any]) -> str:
    """Return llama.cpp's name for the way a byte-level tokenizer cuts text.

    Raises:
        InputError: it has none.
    """
    stage = data.get("pre_tokenizer") or {}
    parts = stage.get("pretokenizers", [stage])
    kinds = [part.get("type") for part in parts]
    expressions = [part["pattern"].get("Regex") for part in parts if part.get("type") == "Split"]
    if kinds == ["Split", "ByteLevel"] and not parts[1].get("use_regex", True) and expressions[0] in _PIECES:
        return _PIECES[expressions[0]]
    if kinds == ["ByteLevel"] and parts[0].get("use_regex", True):
        return "gpt-2"
    if kinds == ["Digits", "ByteLevel"] and parts[0].get("individual_digits") and parts[1].get("use_regex", True):
        return "smollm"
    raise InputError("llama.cpp has no name for the way this tokenizer cuts text", where=f"pre_tokenizer: {kinds}",
                     fix="export with --to hf")


def _scores(tokens: list[str], model: dict[str, Any], merges: list[tuple[str, ...]]) -> list[float]:
    """Return a score a token by which joining the best pair first does what the list of merges does.

    Raises:
        InputError: no such scores exist: the tokenizer was not made from a SentencePiece model of kind BPE.
    """
    rank: dict[str, int] = {}
    last: dict[str, int] = {}
    ways: dict[str, int] = {}
    for number, (left, right) in enumerate(merges):
        whole = left + right
        rank.setdefault(whole, number)
        last[whole] = number
        ways[whole] = ways.get(whole, 0) + 1
    known = set(model["vocab"]) if isinstance(model["vocab"], dict) else set()
    same = model.get("type", "BPE") == "BPE" and all(  # llama.cpp joins whatever two tokens make a third
        ways.get(token, 0) == sum(token[:cut] in known and token[cut:] in known for cut in range(1, len(token)))
        and (token not in rank or last[token] - rank[token] + 1 == ways[token]) for token in known)
    if not same:
        raise InputError("llama.cpp would join this tokenizer's tokens in another order",
                         where=f"tokenizer of kind {model.get('type')}", fix="export with --to hf")
    return [float(-rank[token]) if token in rank else float(-len(merges) - 1) for token in tokens]
