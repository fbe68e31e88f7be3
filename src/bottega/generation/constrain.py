"""Outputs of a given shape: JSON schema, regular expression, Lark grammar or calls of tools, by `controls.format`.

llguidance says which tokens may follow; JSON is compact (no free white space to get lost in). When the token budget
runs low the output is steered to a valid end, so that it parses unless the budget is too small for any valid output.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bottega.core.errors import ControlError
from bottega.core.request import Calls, Format
from bottega.core.tool_text import call_grammar

if TYPE_CHECKING:
    from bottega.codecs.text import TextCodec

_CLOSERS = (b'"', b"}", b"]", b"0", b"e", b"a")  # what a shortest ending is tried with, in this order
_SLACK = 8  # tokens kept in hand before an output is steered to its end
_LOOKAHEAD = 32  # within this many tokens of the end, the way out is measured at every step
_LONGEST_END = 512
_INSIDE = "failed to compile JSON schema: "  # how llguidance begins what is wrong with a schema inside a grammar


class _Vocabulary:
    """The codec as llguidance wants it: the bytes of each token, an encoder, and which ids are reserved."""

    def __init__(self, codec: TextCodec) -> None:
        names = {number: f"<|{name}|>".encode() for name, number in codec.special.items()}
        self.tokens = [names.get(number, codec.token_bytes(number)) for number in range(codec.vocab_size)]
        self.special_token_ids = sorted(names)
        self.bos_token_id, self.eos_token_id = codec.bos, codec.eos
        self._encode = codec.encode_bytes

    def __call__(self, text: str | bytes) -> list[int]:
        return self._encode(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))


class Grammars:
    """Compiles formats for one codec; the codec's table is built at first use and kept.

    Args:
        codec: the text codec.
        ends: token ids that end an output.
    """

    def __init__(self, codec: TextCodec, ends: tuple[int, ...]) -> None:
        self._codec, self._ends = codec, ends
        self._tokenizer: Any = None

    def compile(self, form: Format) -> Constraint:
        """Return a constraint at its start.

        Raises:
            ControlError: the schema, expression or grammar is not valid or uses what is not supported.
        """
        from llguidance import LLMatcher

        if form.calls is not None:
            return self._calls(form.calls)
        if form.json_schema is not None:
            name, grammar = "json_schema", LLMatcher.grammar_from_json_schema(
                form.json_schema, overrides={"whitespace_flexible": False})
        elif form.regex is not None:
            name, grammar = "regex", LLMatcher.grammar_from_regex(form.regex)
        else:
            name, grammar = "grammar", LLMatcher.grammar_from_lark(form.grammar)
        return self._start(grammar, f"the {name}", f"format.{name}")

    def _calls(self, calls: Calls) -> Constraint:
        from llguidance import LLMatcher

        grammar = LLMatcher.grammar_from_lark(call_grammar(calls.tools, several=calls.several))
        try:
            return self._start(grammar, f"the parameters of the tool '{next(iter(calls.tools))}'", "format.calls",
                               calls.several)
        except ControlError:
            for name, schema in calls.tools.items() if len(calls.tools) > 1 else ():  # which of them is it?
                self._calls(Calls(tools={name: schema}))
            raise

    def _start(self, grammar: Any, what: str, where: str, several: bool = False) -> Constraint:
        from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

        if self._tokenizer is None:
            self._tokenizer = LLTokenizer(TokenizerWrapper(_Vocabulary(self._codec)), n_vocab=self._codec.vocab_size,
                                          eos_token=list(self._ends))
        matcher = LLMatcher(self._tokenizer, grammar, log_level=0)
        if matcher.is_error():
            raise ControlError(f"{what} cannot be used: {_problem(matcher)}", where=where,
                               fix="correct it; JSON Schema, Rust regex and Lark syntax are understood")
        closers = [number for data in _CLOSERS if len(number_of := self._codec.encode_bytes(data)) == 1
                   for number in number_of]
        return Constraint(matcher, self._codec.vocab_size, self._ends, closers, several)


def _problem(matcher: Any) -> str:
    """Return what llguidance complains of, on one line, without the grammar that calls are made into."""
    error = str(matcher.get_error()).partition(_INSIDE)
    return " ".join(re.split(r"\n +\d+ \| ", error[2] or error[0])[0].split())[:300]


class Constraint:
    """How far one output has come in its format; `several`: whether it is made of long parts that end alike."""

    def __init__(self, matcher: Any, vocab: int, ends: tuple[int, ...], closers: list[int], several: bool) -> None:
        self._matcher, self._vocab, self._ends, self._closers = matcher, vocab, ends, closers
        self._several, self._since, self._cost, self._part = several, 0, -1, 0
        self.steered = False

    def fork(self) -> Constraint:
        """Return an independent copy at the same place."""
        return Constraint(self._matcher.deep_copy(), self._vocab, self._ends, self._closers, self._several)

    def allowed(self, remaining: int) -> NDArray[np.bool_]:
        """Return which tokens may come next, bool [V].

        Args:
            remaining: tokens left in the budget, this one included.
        """
        self._since += 1
        # where no way out was found, the search is long: not at every step
        near = self._cost < _LONGEST_END and remaining <= self._cost + _LOOKAHEAD
        if self._cost < 0 or self._since >= _SLACK or near:
            path = self._way_out(min(remaining, _LONGEST_END))
            self._since, self._cost = 0, _LONGEST_END if path is None else len(path)
            self._part = max(self._part, len(path or ()))
            if path is not None and len(path) + _SLACK >= remaining:
                return self._only(path[:1] or list(self._ends))
        # a further part is begun only where another like the longest so far, and some slack, has room
        if self._several and remaining <= 2 * self._part + _SLACK and self._matcher.is_accepting():
            return self._only(list(self._ends))
        return self._mask(self._matcher)

    def _only(self, tokens: list[int]) -> NDArray[np.bool_]:
        self.steered = True
        only = np.zeros(self._vocab, dtype=np.bool_)
        only[tokens] = True
        return only

    def accept(self, token: int) -> None:
        """Take the token that was drawn.

        Raises:
            ControlError: the grammar is too complex to follow.
        """
        if not self._matcher.consume_token(token):
            raise ControlError(f"the format cannot be followed: {_problem(self._matcher)}", where="format",
                               fix="give a simpler schema or grammar")

    @property
    def finished(self) -> bool:
        """Whether nothing may follow but the end."""
        return bool(self._matcher.is_stopped())

    def _mask(self, matcher: Any) -> NDArray[np.bool_]:
        bits = np.unpackbits(np.frombuffer(matcher.compute_bitmask(), dtype=np.uint8), bitorder="little")
        return bits[:self._vocab].astype(np.bool_)

    def _way_out(self, limit: int) -> list[int] | None:
        """Return a short sequence of at most `limit` tokens to a valid end (not always the shortest), or None."""
        matcher, path = self._matcher.deep_copy(), list[int]()
        while len(path) <= limit:
            if matcher.is_accepting():
                return path
            step: list[int] = list(matcher.compute_ff_tokens())
            if not step:
                mask = self._mask(matcher)
                mask[list(self._ends)] = False
                step = next(([number] for number in self._closers if mask[number]), np.flatnonzero(mask)[:1].tolist())
            if not step or not matcher.consume_tokens(step):
                return None
            path += step
        return None
