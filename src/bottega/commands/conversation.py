"""The terminal chat behind `bottega chat`: history, settings, streaming, a look inside the last answer."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
import yaml

from bottega.core.errors import BottegaError, InputError, Interrupted, suggest
from bottega.core.files import write_json
from bottega.core.request import Controls, Message, Output, Request

if TYPE_CHECKING:
    from bottega.commands.session import Session

_HELP = {
    "/help": "this list",
    "/set NAME=VALUE": "change a control, for instance /set temperature=0.3; /set alone shows them",
    "/system TEXT": "set (or without text remove) the instruction before the conversation",
    "/again": "answer the last message once more",
    "/undo": "forget the last message and answer",
    "/reset": "forget the whole conversation",
    "/explain": "open the last answer: tokens, probabilities, alternatives",
    "/save FILE": "write the conversation as JSON",
    "/quit": "leave (also Ctrl-D)",
}


class Conversation:
    """One chat session.

    Args:
        session: an open session with a model tuned to answer.
        controls: starting controls.
        system: instruction before the conversation.

    Raises:
        InputError: the model was not tuned to answer.
    """

    def __init__(self, session: Session, controls: Controls, system: str | None = None) -> None:
        if not session.served.answers:
            raise InputError("this model continues text, it was not tuned to answer",
                             fix="use 'bottega generate', or fine-tune it with an sft recipe")
        self.session, self.controls, self.system = session, controls, system  # one answer a turn, see _request
        self.turns: list[Message] = []

    def run(self) -> None:
        """Read lines until the end of input or /quit. Ctrl-C stops an answer, at the prompt it leaves."""
        interactive = sys.stdin.isatty()
        if interactive:
            import readline  # noqa: F401  (line editing and history in input())

            typer.secho("Talk to the model; /help lists the commands, /quit leaves.", dim=True)
        while True:
            try:
                line = input("› " if interactive else "").strip()
            except EOFError:
                break
            except UnicodeDecodeError:
                typer.secho("that line is not valid UTF-8 text", fg="red", err=True)
                continue
            if line == "/quit":
                break
            if not line:
                continue
            try:
                if line.startswith("/"):
                    self.command(line)
                else:
                    self.turns.append(Message(role="user", content=line))
                    self.answer()
            except Interrupted:
                typer.secho(" [stopped]", dim=True)
            except BottegaError as error:
                typer.secho(str(error), fg="red", err=True)

    def answer(self) -> None:
        """Stream an answer to the last message and remember what was said, also when it was stopped."""
        said, before = "", list(self.turns)
        try:
            for delta in self.session.stream(self._request()):
                said += delta.text
                typer.echo(delta.text, nl=False)
                sys.stdout.flush()
        finally:
            # a message that got no answer is not kept
            self.turns = [*before, Message(role="assistant", content=said)] if said else before[:-1]
        typer.echo("")

    def command(self, line: str) -> None:
        """Obey one /command.

        Raises:
            InputError: unknown command, or one that has nothing to act on.
        """
        name, _, rest = line.partition(" ")
        rest = rest.strip()
        if name == "/help":
            for usage, meaning in _HELP.items():
                typer.echo(f"{usage:18} {meaning}")
        elif name == "/set":
            self._set(rest)
        elif name == "/system":
            self.system = rest or None
        elif name in ("/again", "/undo"):
            before = list(self.turns)
            self._drop_answer()
            if name == "/again":
                self.controls = self.controls.model_copy(update={"seed": None})
                try:
                    self.answer()
                except BottegaError:
                    if len(self.turns) < len(before):  # nothing came: the old answer stays
                        self.turns = before
                    raise
            else:
                self.turns.pop()
        elif name == "/reset":
            self.turns.clear()
        elif name == "/explain":
            self._explain()
        elif name == "/save":
            if not rest:
                raise InputError("/save needs a file name", fix="/save talk.json")
            write_json(Path(rest), {"messages": [t.model_dump() for t in self._messages()]})
            typer.secho(f"saved {rest}", dim=True)
        else:
            raise InputError(f"unknown command {name}", fix=suggest(name, [usage.split()[0] for usage in _HELP]))

    def _messages(self) -> list[Message]:
        return ([Message(role="system", content=self.system)] if self.system else []) + self.turns

    def _request(self, alternatives: int = 0, turns: list[Message] | None = None) -> Request:
        messages = self._messages() if turns is None else turns
        return Request(messages=messages, controls=self.controls.model_copy(update={"n": 1}),
                       alternatives=alternatives)

    def _drop_answer(self) -> None:
        if self.turns and self.turns[-1].role == "assistant":
            self.turns.pop()
        if not self.turns:
            raise InputError("nothing has been said yet", fix="type a message")

    def _set(self, rest: str) -> None:
        if not rest:
            for name, value in self.controls.over(self.session.engine.controls).model_dump(exclude_none=True).items():
                typer.echo(f"{name} = {value}")
            return
        name, sign, value = rest.partition("=")
        if not sign:
            raise InputError(f"'{rest}' is not NAME=VALUE", fix="/set temperature=0.3")
        try:
            read = yaml.safe_load(value)
        except yaml.YAMLError:
            raise InputError(f"'{value}' cannot be read as a value", fix="/set stop=['.']") from None
        changed: dict[str, Any] = {**self.controls.model_dump(exclude_none=True), name.strip(): read}
        self.controls = Controls.parse(changed, where="/set")

    def _explain(self) -> None:
        from rich.console import Console

        from bottega.generation.explain import render_outputs

        if not self.turns or self.turns[-1].role != "assistant":
            raise InputError("there is no answer to open yet", fix="type a message first")
        said = self.turns[-1].content
        scored: Output = self.session.engine.score(self._messages()[:-1], said, alternatives=5)
        Console().print(render_outputs([scored]))
