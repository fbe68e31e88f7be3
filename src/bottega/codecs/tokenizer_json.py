"""What stands in a tokenizer.json: which kind of tokenizer it is, its steps, and the tokenizer it makes.

`pytest tests/codecs/test_pretrained.py`
"""

from __future__ import annotations

import json
from typing import Any

from tokenizers import Tokenizer

from bottega.core.errors import InputError

TOKENIZER = "tokenizer.json"


def string(token: Any) -> str:
    """Return a token's text, which configurations write as a string or as an object."""
    return str(token.get("content", "")) if isinstance(token, dict) else token if isinstance(token, str) else ""


def extra_tokens(config: dict[str, Any]) -> list[Any]:
    """Return further special tokens that a configuration names."""
    more = config.get("extra_special_tokens") or config.get("additional_special_tokens") or []
    return list(more.values()) if isinstance(more, dict) else list(more)


def tokenizer(data: dict[str, Any]) -> Tokenizer:
    """Return a tokenizer that takes no special token from a text."""
    made = Tokenizer.from_str(json.dumps(data))
    made.encode_special_tokens = True
    made.no_padding()
    made.no_truncation()
    return made


def parts(stage: Any) -> list[dict[str, Any]]:
    """Return the steps of a normaliser, pre-tokenizer or decoder of tokenizer.json."""
    if not stage:
        return []
    inner = stage.get("normalizers") or stage.get("pretokenizers") or stage.get("decoders")
    return [part for one in inner for part in parts(one)] if inner else [stage]


def is_byte_level(data: dict[str, Any]) -> bool:
    """Whether tokens are letters that stand for bytes; else they are text with "▁" for spaces.

    Raises:
        InputError: they are neither.
    """
    kind = data["model"].get("type") or ("BPE" if "merges" in data["model"] else "")
    if any(part["type"] == "ByteLevel" for part in (*parts(data.get("decoder")), *parts(data.get("pre_tokenizer")))):
        return True
    spaces = any(part["type"] == "Metaspace" or part.get("content") in ("▁", " ") for part in
                 (*parts(data.get("decoder")), *parts(data.get("normalizer"))))
    if kind not in ("BPE", "Unigram") or not spaces:
        raise InputError(f"a tokenizer of kind {kind or 'unknown'} without bytes cannot be used", where=TOKENIZER,
                         fix="byte-level BPE and SentencePiece's models are read")
    return False


def without_prefix(data: dict[str, Any]) -> dict[str, Any]:
    """Return tokenizer.json of the same tokenizer that puts no space in front of a text."""
    changed: dict[str, Any] = json.loads(json.dumps(data))
    for stage in ("normalizer", "pre_tokenizer"):
        steps = parts(changed.get(stage))
        for part in steps:
            if part["type"] == "Metaspace":
                part["prepend_scheme"] = "never"
            if part["type"] == "ByteLevel":
                part["add_prefix_space"] = False
        kept = [part for part in steps if part["type"] != "Prepend"]
        if len(kept) < len(steps):
            changed[stage] = {"type": "Sequence", "normalizers": kept} if kept else None
    return changed
