"""A chat template that came with a model: conversations to text, and where in it the assistant speaks.

A template from elsewhere is a program of others. It runs in Jinja's immutable sandbox, without a clock, and what it
returns is text only: which of it becomes special tokens is decided here. Contents are written so that no special token
can be spelled by them (`defuse`), whatever the template does with them. `pytest tests/codecs/test_pretrained.py`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment

from bottega.core.errors import InputError

# For models that came without one. Nothing but eos is a token of its own here: a user can write such a heading too.
PLAIN_TEMPLATE = (
    "{% for message in messages %}{{ '### ' + message['role'] | capitalize + '\n' + message['content'] }}"
    "{{ eos_token if message['role'] == 'assistant' else '' }}{{ '\n\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '### Assistant\n' }}{% endif %}"
)
_BREAKS = [chr(code) for code in range(0xFDD0, 0xFDF0)]  # never characters, in any text (Unicode 23.7)


class _Generation(Extension):
    """`{% generation %} … {% endgeneration %}`, by which some templates mark answers; what is inside is kept."""

    tags = {"generation"}

    def parse(self, parser: Any) -> list[nodes.Node]:
        """Return the block's content."""
        next(parser.stream)
        body: list[nodes.Node] = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return body


def _refuse(message: str) -> None:
    raise TemplateError(message)


def _tojson(value: Any, indent: int | None = None, **_: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


@dataclass(frozen=True)
class Rendered:
    """A conversation as text.

    Attributes:
        text: with the break character inside what contents spell of special tokens.
        said: [start, end) of what the assistant says, its end token included.
        broken: the break character.
    """

    text: str
    said: tuple[tuple[int, int], ...]
    broken: str


class ChatTemplate:
    """One template, compiled.

    Args:
        source: Jinja text.
        names: variables of the template: bos_token, eos_token …
        special: texts of all special tokens.
        ends: texts of those that end an answer.

    Raises:
        InputError: it is not a template.
    """

    def __init__(self, source: str, names: dict[str, str], special: Iterable[str], ends: Sequence[str]) -> None:
        self.source, self._names = source, names
        # the longest first, as tokenizers match them
        self.special = re.compile("|".join(map(re.escape, sorted(special, key=len, reverse=True))) or r"(?!)")
        room = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, autoescape=False,
                                             extensions=["jinja2.ext.loopcontrols", _Generation])
        room.globals["raise_exception"] = _refuse  # no strftime_now: equal requests must give equal bytes
        room.filters["tojson"] = _tojson
        try:
            self._template = room.from_string(source)
        except (TemplateError, RecursionError) as error:
            raise InputError(f"the chat template cannot be read: {error}", where="chat_template",
                             fix="correct it, or import the model with another one") from error
        self._ends = re.compile("|".join(map(re.escape, [*ends, *self._probe()])) or r"(?!)")

    def _probe(self) -> list[str]:
        """Return the special token that follows a short answer, where there is one."""
        try:
            text = self._text([{"role": "user", "content": "Say it."}, {"role": "assistant", "content": "Zyx"}], False)
        except InputError:
            return []
        found = self.special.match(text[text.rfind("Zyx") + 3:].lstrip())
        return [found[0]] if found and "Zyx" in text else []

    @property
    def end(self) -> str:
        """The text of the token that ends an answer, "" where the template writes none."""
        return (self._probe() or [""])[0]

    def _text(self, messages: Sequence[dict[str, Any]], prompt: bool) -> str:
        try:
            return self._template.render(messages=messages, add_generation_prompt=prompt, **self._names)
        except Exception as error:  # what a program of others raises
            raise InputError(f"the model's chat template refuses this conversation: {str(error)[:300]}",
                             where="messages", fix="order the turns as the template wants them: often an optional "
                             "system turn, then user and assistant in turn") from error

    def render(self, messages: Sequence[dict[str, Any]], *, prompt: bool = False) -> Rendered:
        """Return a conversation as text, and what the assistant says in it.

        Args:
            messages: turns with `role`, `content` and whatever else the template knows.
            prompt: end with what comes before the assistant's next answer.

        Raises:
            InputError: the template refuses them, or does not show where an answer begins and ends.
        """
        whole = json.dumps(messages, ensure_ascii=False)
        broken = next((mark for mark in _BREAKS if mark not in whole), None)
        if broken is None:
            raise InputError("the conversation holds all of Unicode's noncharacters", where="messages",
                             fix="send text")
        safe = [self._defused(message, broken) for message in messages]
        text = self._text(safe, prompt)
        said = [self._span(safe, number, text) for number, message in enumerate(safe)
                if message.get("role") == "assistant"]
        return Rendered(text, tuple(said), broken)

    def _defused(self, value: Any, broken: str) -> Any:
        """Return a value whose texts spell no special token: the break character stands in each."""
        if isinstance(value, str):
            while self.special.search(value):  # again, where they overlapped
                value = self.special.sub(lambda found: found[0][0] + broken + found[0][1:], value)
            return value
        if isinstance(value, dict):
            return {name: self._defused(part, broken) for name, part in value.items()}
        return [self._defused(part, broken) for part in value] if isinstance(value, (list, tuple)) else value

    def _span(self, messages: list[dict[str, Any]], number: int, full: str) -> tuple[int, int]:
        """Return where the assistant says a turn: from where its prompt ends to the end token after it.

        A template may show a turn otherwise once others follow (an answer without its thoughts), so only what is the
        same with and without them is relied on, and the content must be found between the two places.

        Raises:
            InputError: it is not.
        """
        content = str(messages[number].get("content") or "").strip()
        try:
            before = self._text(messages[:number], True)
        except InputError:  # nothing may come before a first answer
            before = full[:full.find(content)] if number == 0 and content else ""
        start = next((at for at, (one, other) in enumerate(zip(before, full, strict=False)) if one != other),
                     min(len(before), len(full)))
        found = self._ends.search(full, start)
        end = found.end() if found else -1
        try:
            upto = self._text(messages[:number + 1], False)
        except InputError:
            upto = full + " "
        if full.startswith(upto) and (end < 0 or end > len(upto)):
            end = len(upto)
        shown = full[start:end]
        ending = self._ends.search(shown)
        shown = (shown[:ending.start()] if ending else shown).strip()
        if end < 0 or not (content in shown or (shown and content.endswith(shown))):
            raise InputError(f"the model's chat template does not show where answer {number} stands",
                             where="chat_template", fix="import the model with another template, one that writes "
                             "each answer whole and ends it with a special token")
        return start, end
