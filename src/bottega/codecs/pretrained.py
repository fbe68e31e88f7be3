"""The tokenizer of a model that others trained: its own tokenizer.json and chat template. `bottega import` brings one.

Byte-level BPE (GPT-2, Llama 3, Qwen) and SentencePiece's BPE and unigram models ("▁" for a space, `<0x0A>` for a byte;
Llama 2, Mistral, Gemma). As with our own codec, a text never becomes special tokens: they come from the chat template
and from the codec only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from bottega.codecs.chat_template import PLAIN_TEMPLATE, ChatTemplate, Rendered
from bottega.codecs.text import _BROKEN_BYTE, ROLES, TextCodec, Turn, _byte_letters
from bottega.codecs.tokenizer_json import (
    TOKENIZER,
    extra_tokens,
    is_byte_level,
    parts,
    string,
    tokenizer,
    without_prefix,
)
from bottega.core.errors import CorruptError, InputError
from bottega.core.files import digest_json, read_json, write_atomic, write_json
from bottega.core.request import Message

_CONFIG, _TEMPLATE = "tokenizer_config.json", "chat_template.jinja"
_NAMED = ("bos", "eos", "pad", "unk")
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
# prefix, suffix and middle: Qwen and CodeGemma, StarCoder and SmolLM, Code Llama
_GAPS = (("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"), ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
         ("<fim-prefix>", "<fim-suffix>", "<fim-middle>"), ("▁<PRE>", "▁<SUF>", "▁<MID>"))


class PretrainedCodec(TextCodec):
    """A tokenizer of others with the interface of `TextCodec`.

    Args:
        data: content of tokenizer.json.
        config: content of tokenizer_config.json, with the chat template in it.
        ends: more ids that end an output.

    Attributes:
        special: id of each special token, by its role (bos, eos, pad, unk, end) and by its own text.
        reserved: the same by their own texts only.
        start: ids in front of a text: [bos], or nothing where the model was trained without.
        bos: what stands between documents: bos, or eos where there is none.

    Raises:
        InputError: the kind of tokenizer is not known.
        CorruptError: tokenizer.json cannot be read.
    """

    def __init__(self, data: dict[str, Any], config: dict[str, Any], ends: Sequence[int] = ()) -> None:
        self._data, self.config = data, config
        strings = {name: text for name in _NAMED if (text := string(config.get(f"{name}_token")))}
        listed = {**{text: True for text in strings.values()},
                  **{string(token): True for token in extra_tokens(config)},
                  **{entry["content"]: True for entry in (config.get("added_tokens_decoder") or {}).values()
                     if entry.get("special")}}
        self._added = [{**entry, "special": entry["special"] or entry["content"] in listed}
                       for entry in data["added_tokens"]]
        whole = {**data, "added_tokens": self._added}
        self._plain, self._bare = tokenizer(whole), tokenizer(without_prefix(whole))
        self.vocab_size = max(self._plain.get_vocab().values()) + 1
        reserved = {entry["content"]: int(entry["id"]) for entry in self._added if entry["special"]}
        reserved |= {text: number for text in listed if (number := self._plain.token_to_id(text)) is not None}
        self.reserved = reserved
        named = {name: reserved[text] for name, text in strings.items() if text in reserved}
        eos = named.get("eos", next(iter(ends), None))
        if eos is None:
            raise InputError("the tokenizer names no token that ends a text", where=_CONFIG,
                             fix="add eos_token to tokenizer_config.json")
        self.eos, self.bos = eos, named.get("bos", eos)
        self.pad, self.unk = named.get("pad", eos), named.get("unk", eos)
        self.start = [named["bos"]] if "bos" in named and self._adds_bos(named["bos"]) else []
        self._letters = _byte_letters() if is_byte_level(data) else None
        self._bytes = [b""] * self.vocab_size
        for token, number in self._plain.get_vocab().items():
            self._bytes[number] = b"" if token in reserved else self._bytes_of(token)
        self._byte_ids = self._single_bytes()
        texts = {number: text for text, number in reserved.items()}
        self.template = ChatTemplate(
            config.get("chat_template") or PLAIN_TEMPLATE, {f"{name}_token": text for name, text in strings.items()},
            reserved, [texts[number] for number in (self.eos, *ends) if number in texts])
        self.end_of_turn = reserved.get(self.template.end, self.eos)
        self._stops = [number for number in ends if number in texts]
        self.special = {**reserved, **named, "bos": self.bos, "eos": self.eos, "pad": self.pad,
                        "end": self.end_of_turn}

    @classmethod
    def load(cls, folder: Path) -> PretrainedCodec:
        """Read a folder in Hugging Face's form.

        Raises:
            InputError: there is no tokenizer.json, or it is of a kind that is not known.
            CorruptError: a file is damaged.
        """
        data = read_json(folder / TOKENIZER)
        config = read_json(folder / _CONFIG) if (folder / _CONFIG).is_file() else {}
        names = folder / "special_tokens_map.json"
        if names.is_file():
            config = {**read_json(names), **config}
        generation = folder / "generation_config.json"
        more = read_json(generation) if generation.is_file() else {}
        model = read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
        try:
            template = config.get("chat_template")
            if isinstance(template, list):  # several by name
                template = {entry["name"]: entry["template"] for entry in template}.get("default")
            if (folder / _TEMPLATE).is_file():
                template = (folder / _TEMPLATE).read_text(encoding="utf-8")
            config = {**config, "chat_template": template}
            ends: list[int] = []
            for value in (more.get("eos_token_id"), model.get("eos_token_id")):
                ends += [number for number in (value if isinstance(value, list) else [value])
                         if isinstance(number, int)]
            return cls(data, config, [*dict.fromkeys(ends)])
        except InputError:
            raise
        except Exception as error:  # the Rust parser raises bare Exception
            raise CorruptError(f"{folder / TOKENIZER} cannot be read: {error}", where=str(folder),
                               fix="restore the tokenizer's files") from error

    def save(self, folder: Path, context: int | None = None) -> None:
        """Write tokenizer.json as it came, tokenizer_config.json and the chat template."""
        write_atomic(folder / TOKENIZER, json.dumps(self._data, ensure_ascii=False, indent=1))
        names = {f"{name}_token": text for name in _NAMED if (text := string(self.config.get(f"{name}_token")))}
        write_json(folder / "special_tokens_map.json", names)
        write_json(folder / _CONFIG, {**self.config, "chat_template": self.template.source,
                                      **({"model_max_length": context} if context else {})})

    @cached_property
    def digest(self) -> str:
        """SHA-256 over tokenizer, special tokens and chat template: equal digests encode equally."""
        return digest_json({"tokenizer": self._data, "added": self._added, "chat_template": self.template.source,
                            "special": self.special, "ends": self.ends})

    @property
    def ends(self) -> tuple[int, ...]:
        """Ids that end an output."""
        return tuple(dict.fromkeys([self.end_of_turn, self.eos, *self._stops]))

    @property
    def data(self) -> dict[str, Any]:
        """Content of tokenizer.json."""
        return self._data

    @property
    def byte_level(self) -> bool:
        """Whether tokens are letters that stand for bytes; else they are text with "▁" for spaces."""
        return self._letters is not None

    @property
    def has_template(self) -> bool:
        """Whether the model came with a chat template of its own."""
        return bool(self.config.get("chat_template"))

    def _adds_bos(self, bos: int) -> bool:
        """Whether texts begin with bos: as the configuration says, else as tokenizer.json does it."""
        said = self.config.get("add_bos_token")
        if isinstance(said, bool):
            return said
        return self._plain.encode("a", add_special_tokens=True).ids[:1] == [bos]

    def _bytes_of(self, token: str) -> bytes:
        """Return the bytes that a token of the vocabulary stands for."""
        if self._letters is not None:
            if all(letter in self._letters for letter in token):
                return bytes(self._letters[letter] for letter in token)
            return token.encode()  # an added token, written as it is
        if found := _BYTE.fullmatch(token):
            return bytes([int(found[1], 16)])
        return token.replace("▁", " ").encode()

    def _single_bytes(self) -> dict[int, int]:
        """Return the id that stands for each byte, where there is one; tokens made for bytes before other ones."""
        tokens = self._plain.get_vocab()
        if self._letters is not None:
            return {byte: tokens[letter] for letter, byte in self._letters.items() if letter in tokens}
        return {byte: tokens[name] for byte in range(256) if (name := f"<0x{byte:02X}>") in tokens}

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        """Return the ids of many texts: no special id, no token in front."""
        try:
            made = [encoding.ids for encoding in self._plain.encode_batch_fast(texts, add_special_tokens=False)]
        except (TypeError, UnicodeEncodeError):
            return [self.encode_bytes(text.encode("utf-8", "surrogatepass")) for text in texts]
        return [ids if self._clean(ids) else self._spelled(text) for ids, text in zip(made, texts, strict=True)]

    def _clean(self, ids: list[int]) -> bool:
        forbidden = self._forbidden
        return not any(number in forbidden for number in ids)

    @cached_property
    def _forbidden(self) -> frozenset[int]:
        """Special ids that no text may give; unk is what an unknown character honestly gives."""
        unk = self._plain.token_to_id(string(self.config.get("unk_token")) or "")
        return frozenset(self.reserved.values()) - {unk}

    def _spelled(self, text: str) -> list[int]:
        """Return the ids of a text whose words the model itself would join to a special token: those byte by byte."""
        ids: list[int] = []
        last = 0
        for found in self.template.special.finditer(text):
            ids += self._rest(text[last:found.start()])
            ids += [number for byte in found[0].encode() for number in self._of_byte(byte)]
            last = found.end()
        ids += self._rest(text[last:])
        if not self._clean(ids):
            raise InputError("the text cannot be written without a special token", where=repr(text[:80]),
                             fix="leave out what looks like a special token")
        return ids

    def _rest(self, text: str) -> list[int]:
        return list(self._bare.encode(text, add_special_tokens=False).ids) if text else []

    def _of_byte(self, byte: int) -> list[int]:
        if byte in self._byte_ids:
            return [self._byte_ids[byte]]
        return self._rest(chr(byte) if byte < 0x80 else "\ufffd")

    def encode_bytes(self, data: bytes) -> list[int]:
        """Return ids whose bytes are exactly `data`, where the vocabulary has a token for each byte."""
        ids: list[int] = []
        for part in _BROKEN_BYTE.split(data.decode("utf-8", "surrogateescape")):
            if _BROKEN_BYTE.fullmatch(part):
                ids += self._of_byte(ord(part) - 0xDC00)
            elif part:
                plain = self._rest(part)
                ids += plain if self._clean(plain) else self._spelled(part)
        return ids

    def encode_chat(self, messages: Sequence[Turn], add_generation_prompt: bool = False) -> list[int]:
        """Return the ids of a conversation under the model's own chat template.

        Equal to what transformers gives, unless a content spells a special token, which stays plain text here, or a
        token would join a prompt and the answer after it, which a model could never have made.

        Raises:
            InputError: the template refuses the conversation.
        """
        return self._ids(self.template.render([_turn(turn) for turn in messages], prompt=add_generation_prompt))[0]

    def encode_chat_masked(self, messages: Sequence[Turn]) -> tuple[list[int], list[bool]]:
        """Return the ids of a conversation and which of them the assistant says, each answer's end token included.

        Raises:
            InputError: the template refuses it, or does not show where an answer stands.
        """
        return self._ids(self.template.render([_turn(turn) for turn in messages]))

    def _ids(self, rendered: Rendered) -> tuple[list[int], list[bool]]:
        """Return the ids of a rendered conversation and which stand where the assistant speaks."""
        text, cuts = rendered.text, sorted({place for span in rendered.said for place in span})
        ids: list[int] = []
        mask: list[bool] = []
        strips = {entry["content"]: (entry.get("lstrip"), entry.get("rstrip")) for entry in self._added}

        def add(piece: str, at: int, new: list[int]) -> None:
            ids.extend(new)
            mask.extend([any(start <= at < end for start, end in rendered.said)] * len(new))

        last, after_cut = 0, False
        marks = [(found.start(), found.end()) for found in self.template.special.finditer(text)]
        for start, end in [*marks, (len(text), len(text))]:
            literal = text[start:end]
            left, right = last, start
            if literal and strips.get(literal, (False, False))[0]:
                right = left + len(text[left:right].rstrip())
            for cut in [*(cut for cut in cuts if left < cut < right), right]:
                piece = text[left:cut].replace(rendered.broken, "")
                if piece:
                    add(piece, left, self._piece(piece, first=left == 0, inside=after_cut))
                left, after_cut = cut, True
            if literal:
                add(literal, start, [self.reserved[literal]])
            after_cut, last = False, end
            if literal and strips.get(literal, (False, False))[1]:
                last += len(text[end:]) - len(text[end:].lstrip())
        return ids, mask

    def _piece(self, text: str, *, first: bool, inside: bool) -> list[int]:
        """Return the ids of a stretch between special tokens, with a space in front where the tokenizer puts one."""
        bare = inside or (self._once and not first)
        ids = list((self._bare if bare else self._plain).encode(text, add_special_tokens=False).ids)
        return ids if self._clean(ids) else self._spelled(text)

    @cached_property
    def _once(self) -> bool:
        """Whether the space in front is put before the whole text only, not after each special token."""
        return any(part.get("type") == "Metaspace" and part.get("prepend_scheme") == "first"
                   for part in parts(self._data.get("pre_tokenizer")))

    def decode_bytes(self, ids: Any) -> bytes:
        """Return the bytes of ids, without the space that the tokenizer put in front; special ids give nothing."""
        data = super().decode_bytes(ids)
        return data.removeprefix(b" ") if self.prefixes else data

    @cached_property
    def prefixes(self) -> bool:
        """Whether the tokenizer puts a space in front of a text."""
        return self._letters is None and self._bytes[self._plain.encode("a", add_special_tokens=False).ids[0]][:1] \
            == b" "

    @cached_property
    def _gap(self) -> tuple[int, int, int]:
        """Ids of the marks prefix, suffix and middle.

        Raises:
            InputError: the tokenizer has none.
        """
        for names in _GAPS:
            found = [number for name in names if (number := self._plain.token_to_id(name)) is not None]
            if len(found) == len(names):
                return found[0], found[1], found[2]
        raise InputError("this model was not taught to fill gaps: its tokenizer has no marks for them",
                         where="suffix", fix="leave the suffix out, or use a model of code that has them")

    def encode_fim(self, prefix: str, suffix: str) -> list[int]:
        """Return a prompt whose continuation is the text between `prefix` and `suffix`, by the model's own marks.

        Raises:
            InputError: the tokenizer has none.
        """
        before, after, middle = self._gap
        return [*self.start, before, *self._rest(prefix), after, *self._rest(suffix), middle]

    def encode_fim_document(self, prefix: str, middle: str, suffix: str) -> list[int]:
        """Return a training document: bos, the marks and the texts, and eos where the middle ends.

        Raises:
            InputError: the tokenizer has no marks.
        """
        before, after, between = self._gap
        return [self.bos, before, *self._rest(prefix), after, *self._rest(suffix), between, *self._rest(middle),
                self.eos]


def _turn(turn: Turn) -> dict[str, Any]:
    """Return a turn as templates read it.

    Raises:
        InputError: it has another role.
    """
    plain = turn.model_dump(mode="json") if isinstance(turn, Message) else dict(turn)
    if plain.get("role") not in ROLES:
        raise InputError(f"a message has the role {plain.get('role')!r}", fix=f"use one of {', '.join(ROLES)}")
    if not isinstance(plain.get("content", ""), (str, type(None))):
        raise InputError(f"a message's content is {type(plain['content']).__name__}, not text", fix="give a string")
    return {name: value for name, value in plain.items() if value is not None}
