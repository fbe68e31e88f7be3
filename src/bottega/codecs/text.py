"""Text to token ids and back: byte-level BPE, chat turns, gaps to fill. `bottega train` learns one for each model.

The merges are learned over the pieces of Qwen2's pre-tokenizer expression, so that tools which know that expression by
name (`tokenizer.ggml.pre = qwen2`) cut text in the same places. The 256 bytes are all in the vocabulary: nothing is
unknown. Reserved tokens take the last ids and are reachable by name only, never from text: a document or a user who
writes "<|end|>" gets the ordinary tokens of those seven characters.

Order of ids: 256 bytes, merges, reserved tokens, spares up to the size that was asked for.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from bottega.core.errors import CorruptError, DataError, InputError, RecipeError
from bottega.core.files import digest_json, read_json, write_json
from bottega.core.request import Message

# Qwen2 technical report (arXiv 2407.10671) and its published tokenizer.json.
QWEN2_PIECES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
ROLES = ("system", "user", "assistant", "tool")
NAMES = ("bos", "eos", "pad", "unk", *ROLES, "end", "fim_prefix", "fim_suffix", "fim_middle")
SPARES = 4  # reserved for a user's own tokens, present at every size
# Tools and calls are written as `core.tool_text` writes them.
CHAT_TEMPLATE = (
    "{{ '<|bos|>' }}"
    "{% if tools %}{{ '<|system|>' }}"
    "{% if messages and messages[0]['role'] == 'system' and messages[0]['content'] %}"
    "{{ messages[0]['content'] + '\n\n' }}{% endif %}"
    "{{ '<tools>' }}{% for tool in tools %}{{ '\n' + (tool | tojson) }}{% endfor %}{{ '\n</tools><|end|>' }}{% endif %}"
    "{% for message in messages %}"
    "{% if message['role'] not in ['system', 'user', 'assistant', 'tool'] %}"
    "{{ raise_exception('unknown role ' + message['role']) }}{% endif %}"
    "{% if not (tools and loop.first and message['role'] == 'system') %}"
    "{{ '<|' + message['role'] + '|>' }}{% if message['content'] %}{{ message['content'] }}{% endif %}"
    "{% if message['tool_calls'] %}{% for call in message['tool_calls'] %}"
    "{% set made = call['function'] if call['function'] else call %}"
    "{% if message['content'] or not loop.first %}{{ '\n' }}{% endif %}"
    "{{ '<tool_call>\n{\"name\": ' + (made['name'] | tojson) + ', \"arguments\": ' }}"
    "{% if made['arguments'] is string %}{{ made['arguments'] }}{% else %}{{ made['arguments'] | tojson }}{% endif %}"
    "{{ '}\n</tool_call>' }}{% endfor %}{% endif %}"
    "{{ '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
_NO_LIMIT = int(1e30)  # what transformers writes for "no known maximum"
_BROKEN_BYTE = re.compile("([\udc80-\udcff])")  # how `surrogateescape` shows a byte that is not UTF-8

Turn = Message | Mapping[str, Any]


def reserved_string(name: str) -> str:
    """Return how a reserved token is written in the bundle's files: `end` → `<|end|>`."""
    return f"<|{name}|>"


def _byte_letters() -> dict[str, int]:
    """Return GPT-2's table: the printable letter that stands for each byte in the vocabulary → the byte."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = (byte for byte in range(256) if byte not in shown)
    return {chr(byte): byte for byte in shown} | {chr(256 + index): byte for index, byte in enumerate(hidden)}


def _plain_tokenizer(model: models.BPE) -> Tokenizer:
    """Return a tokenizer that knows no reserved token at all."""
    tokenizer = Tokenizer(model)
    pieces = pre_tokenizers.Split(Regex(QWEN2_PIECES), behavior="isolated", invert=False)
    letters = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pieces, letters])
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _added(content: str, number: int) -> dict[str, Any]:
    """Return one entry of `added_tokens` in tokenizer.json."""
    return {"id": number, "content": content, "single_word": False, "lstrip": False, "rstrip": False,
            "normalized": False, "special": True}


class TextCodec:
    """Byte-level BPE with reserved tokens for chat and fill-in-the-middle.

    Attributes:
        special: id of each reserved token by name: bos, eos, pad, unk, the four roles, end, fim_prefix, fim_suffix,
            fim_middle, spare_0 …
        vocab_size: ids are 0 … vocab_size - 1, all of them used or reserved.
    """

    kind = "text"

    def __init__(self, tokenizer: Tokenizer, special: dict[str, int]) -> None:
        self._plain, self.special = tokenizer, special
        self.vocab_size = tokenizer.get_vocab_size(with_added_tokens=False) + len(special)
        letters = _byte_letters()
        self._bytes = [b""] * self.vocab_size
        for token, number in tokenizer.get_vocab(with_added_tokens=False).items():
            self._bytes[number] = bytes(letters[letter] for letter in token)
        self._byte_ids = {value[0]: number for number, value in enumerate(self._bytes) if len(value) == 1}
        self.bos, self.eos, self.pad, self.unk = (special[name] for name in ("bos", "eos", "pad", "unk"))
        self.end_of_turn = special["end"]

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> TextCodec:
        """Learn merges from a stream of texts (read once, never held).

        The same texts in the same order give the same codec. A text too small for the asked size is no error: the
        ids that no merge took become spares, so that the model's vocabulary is always exactly `vocab_size`.

        Raises:
            RecipeError: `vocab_size` cannot hold the bytes and the reserved tokens.
            DataError: there is no text.
        """
        smallest = 256 + len(NAMES) + SPARES
        if vocab_size < smallest:
            raise RecipeError(f"vocab_size {vocab_size} cannot hold the 256 bytes and the reserved tokens",
                              where="codec.vocab_size", fix=f"give at least {smallest}")
        stream: Iterator[str] = (text.encode("utf-8", "replace").decode() for text in texts if text)
        first = next(stream, None)
        if first is None:
            raise DataError("there is no text to learn a tokenizer from", fix="check the data's sources and rules")
        tokenizer = _plain_tokenizer(models.BPE())
        trainer = trainers.BpeTrainer(vocab_size=vocab_size - len(NAMES) - SPARES, show_progress=False,
                                      initial_alphabet=sorted(_byte_letters()))
        tokenizer.train_from_iterator(itertools.chain([first], stream), trainer)
        used = tokenizer.get_vocab_size(with_added_tokens=False)
        spares = (f"spare_{index}" for index in itertools.count())
        names = itertools.chain(NAMES, spares)
        return cls(tokenizer, {name: number for number, name in zip(range(used, vocab_size), names, strict=False)})

    @classmethod
    def load(cls, folder: Path) -> TextCodec:
        """Read what `save` wrote.

        Raises:
            InputError: there is no tokenizer.json.
            CorruptError: it is not one of ours.
        """
        path = folder / "tokenizer.json"
        data = read_json(path)
        try:
            special = {entry["content"][2:-2]: int(entry["id"]) for entry in data["added_tokens"]}
            tokenizer = Tokenizer.from_str(json.dumps({**data, "added_tokens": []}))
            if missing := [name for name in NAMES if name not in special]:
                raise ValueError(f"no token {reserved_string(missing[0])}")
            return cls(tokenizer, special)
        except Exception as error:  # the Rust parser raises bare Exception
            raise CorruptError(f"{path} is not a text codec of Bottega: {error}", where=str(folder),
                               fix="restore the file or make the model again") from error

    def _tokenizer_json(self) -> dict[str, Any]:
        data: dict[str, Any] = json.loads(self._plain.to_str())
        data["added_tokens"] = [_added(reserved_string(name), number) for name, number in self.special.items()]
        return data

    def save(self, folder: Path, context: int | None = None) -> None:
        """Write tokenizer.json, tokenizer_config.json and special_tokens_map.json, as transformers reads them.

        Args:
            folder: where to write.
            context: longest sequence of the model, for `model_max_length`; None writes no limit.
        """
        strings = {f"{name}_token": reserved_string(name) for name in ("bos", "eos", "pad", "unk")}
        write_json(folder / "tokenizer.json", self._tokenizer_json())
        write_json(folder / "special_tokens_map.json", strings)
        write_json(folder / "tokenizer_config.json", {
            "tokenizer_class": "PreTrainedTokenizerFast", **strings, "chat_template": CHAT_TEMPLATE,
            "model_max_length": context or _NO_LIMIT, "add_bos_token": False, "add_prefix_space": False,
            "clean_up_tokenization_spaces": False, "padding_side": "left",
        })

    @cached_property
    def digest(self) -> str:
        """SHA-256 over merges, ids and chat template: equal digests encode equally."""
        return digest_json({"tokenizer": self._tokenizer_json(), "chat_template": CHAT_TEMPLATE})

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text: no reserved id, no token added in front."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        """Return the ids of many texts, in parallel over the machine's cores."""
        try:
            return [encoding.ids for encoding in self._plain.encode_batch_fast(texts, add_special_tokens=False)]
        except (TypeError, UnicodeEncodeError):  # half a surrogate pair, which JSON can carry and UTF-8 cannot
            return [self.encode_bytes(text.encode("utf-8", "surrogatepass")) for text in texts]

    def encode_bytes(self, data: bytes) -> list[int]:
        """Return ids whose bytes are exactly `data`; what is not UTF-8 takes one id a byte."""
        ids: list[int] = []
        for part in _BROKEN_BYTE.split(data.decode("utf-8", "surrogateescape")):
            if _BROKEN_BYTE.fullmatch(part):
                ids.append(self._byte_ids[ord(part) - 0xDC00])
            elif part:
                ids += self._plain.encode(part, add_special_tokens=False).ids
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of ids; reserved ids give nothing, broken UTF-8 gives U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", "replace")

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Return the bytes of ids; reserved ids give nothing."""
        return b"".join([self.token_bytes(number) for number in ids])

    def token_bytes(self, number: int) -> bytes:
        """Return the bytes of one id (`b""` for a reserved one).

        Raises:
            InputError: the id is outside the vocabulary.
        """
        if not 0 <= number < self.vocab_size:
            raise InputError(f"token id {number} is outside the vocabulary", fix=f"use 0 to {self.vocab_size - 1}")
        return self._bytes[number]

    def encode_chat(self, messages: Sequence[Turn], add_generation_prompt: bool = False) -> list[int]:
        """Return the ids of a conversation: bos, then role, content and end for each turn.

        Equal to tokenising the rendered chat template with transformers, unless a content spells a reserved token,
        which stays plain text here.

        Args:
            messages: turns with `role` and `content`.
            add_generation_prompt: end with the assistant's role token, ready for its answer.

        Raises:
            InputError: a turn has another role or no text.
        """
        return self.encode_chat_masked(messages)[0] + [self.special["assistant"]] * add_generation_prompt

    def encode_chat_masked(self, messages: Sequence[Turn]) -> tuple[list[int], list[bool]]:
        """Return the ids of a conversation and which of them the assistant says.

        The mask is true exactly on the tokens of assistant contents and on the end token after each; an assistant
        turn with `weight` 0 is read, not said.

        Raises:
            InputError: a turn has another role or no text.
        """
        roles, contents = zip(*map(_role_and_content, messages), strict=True) if messages else ((), ())
        ids, mask = [self.bos], [False]
        for turn, role, content in zip(messages, roles, self.encode_batch(list(contents)), strict=True):
            said = role == "assistant" and (isinstance(turn, Message) or turn.get("weight") != 0)
            ids += [self.special[role], *content, self.end_of_turn]
            mask += [False] + [said] * (len(content) + 1)
        return ids, mask

    def encode_fim(self, prefix: str, suffix: str) -> list[int]:
        """Return a prompt whose continuation is the text between `prefix` and `suffix`.

        Order prefix, suffix, middle ("PSM"), Bavarian et al. 2022, arXiv 2207.14255. Starts with bos.
        """
        before, after = self.encode_batch([prefix, suffix])
        return [self.bos, self.special["fim_prefix"], *before, self.special["fim_suffix"], *after,
                self.special["fim_middle"]]

    def encode_fim_document(self, prefix: str, middle: str, suffix: str) -> list[int]:
        """Return a training document: the prompt of `encode_fim`, the middle, and eos where the middle ends."""
        return [*self.encode_fim(prefix, suffix), *self.encode(middle), self.eos]


def _role_and_content(turn: Turn) -> tuple[str, str]:
    role, content = (turn.role, turn.content) if isinstance(turn, Message) else (turn.get("role"), turn.get("content"))
    if role not in ROLES:
        raise InputError(f"a message has the role {role!r}", fix=f"use one of {', '.join(ROLES)}")
    if not isinstance(content, str):
        raise InputError(f"a message's content is {type(content).__name__}, not text", fix="give a string")
    return role, content
