"""A GGUF file with a Modelfile: `bottega export MODEL --to ollama -o FOLDER`, then `ollama create NAME -f Modelfile`.

Ollama writes conversations by a template of Go's, not of Jinja's. Ours is taken apart by showing it short
conversations: what stands before and after each turn. Put together again it must give the same text, or none is written
and Ollama falls back on what it recognises in the GGUF file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bottega.codecs.chat_template import ChatTemplate
from bottega.core.errors import InputError
from bottega.core.files import atomic_dir, write_atomic
from bottega.core.request import Controls
from bottega.generation.export.folder import Exported, papers
from bottega.generation.export.gguf import FILE, check, gguf_library, write_gguf
from bottega.generation.export.vocabulary import template_of, texts_of_special

_PARAMETERS = {"temperature": "temperature", "top_k": "top_k", "top_p": "top_p", "min_p": "min_p", "seed": "seed",
               "repetition_penalty": "repeat_penalty", "presence_penalty": "presence_penalty",
               "frequency_penalty": "frequency_penalty", "max_tokens": "num_predict"}
_ROLES = ("system", "user", "assistant")
_SAID = {"system": "Alpha one", "user": "Bravo two", "assistant": "Charlie three"}


def export_ollama(whole: Exported, target: Path, dtype: str = "f16") -> list[str]:
    """Write a folder with `model.gguf` and a `Modelfile`, and return what a reader should know.

    Raises:
        InputError, MissingExtraError: see `gguf.export_gguf`.
    """
    notes = check(whole.generator.config, dtype)
    gguf_library()
    text, more = modelfile(whole)
    with atomic_dir(target) as folder:
        notes += write_gguf(whole, folder / FILE, dtype)
        write_atomic(folder / "Modelfile", text)
        papers(whole.bundle, folder)
    return [*notes, *more]


def modelfile(whole: Exported) -> tuple[str, list[str]]:
    """Return the Modelfile, and what a reader should know."""
    codec, config, notes = whole.codec, whole.generator.config, list[str]()
    special = texts_of_special(codec)
    lines = [f"# {whole.bundle.name}, written by bottega export", f"FROM ./{FILE}"]
    bos = special.get(codec.bos, "") if codec.start else ""  # Ollama puts it there itself
    go = go_template(template_of(codec), bos)
    if go is None:
        notes.append("the chat template does more than put words around turns: the Modelfile has none, and Ollama "
                     "uses what it recognises in the file")
    else:
        lines.append(f"TEMPLATE {_quoted(go)}")
    windows = [config.window or config.context] if config.window_layers != [] else []
    lines.append(f"PARAMETER num_ctx {min(config.context, *windows, config.context)}")
    lines += [f"PARAMETER stop {_stop(special[number])}" for number in codec.ends if number in special]
    controls: Controls = whole.bundle.controls
    for stop in controls.stop or []:
        lines.append(f"PARAMETER stop {_stop(stop)}")
    for name, theirs in _PARAMETERS.items():
        value: Any = getattr(controls, name)
        if value is not None:
            lines.append(f"PARAMETER {theirs} {value:g}" if isinstance(value, float) else f"PARAMETER {theirs} {value}")
    licences = sorted({licence.spdx for licence in whole.bundle.lineage.licences})
    if licences:
        lines.append(f"LICENSE {_quoted(' AND '.join(licences))}")
    return "\n".join(lines) + "\n", notes


def go_template(template: ChatTemplate, bos: str) -> str | None:
    """Return a template in Go's language that writes what a Jinja template writes, None where there is none.

    Args:
        template: the model's.
        bos: text in front that the reader of the file adds by itself.
    """
    def shown(*roles: str, prompt: bool = False) -> str:
        text = template.render([{"role": role, "content": _SAID[role]} for role in roles], prompt=prompt).text
        return text.removeprefix(bos)

    try:
        one, asked = shown("user"), shown("user", prompt=True)
        two = shown("user", "assistant", "user")
        head, _, tail = one.partition(_SAID["user"])
        between = two[len(head) + len(_SAID["user"]):].partition(_SAID["assistant"])
        after = between[2].partition(_SAID["user"])[0]
        around = {"user": (head, tail), "assistant": (between[0].removeprefix(tail), after[:len(after) - len(head)])}
        prompt = asked.removeprefix(one)
    except InputError:
        return None
    try:
        first = shown("system", "user")
        before, _, rest = first.partition(_SAID["system"])
        around["system"] = (before, rest[:rest.find(_SAID["user"]) - len(head)])
    except InputError:
        pass  # a template may have no system turn

    def built(*roles: str) -> str:
        return "".join(around[role][0] + _SAID[role] + around[role][1] for role in roles) + prompt

    longest = [role for role in ("system",) if role in around] + ["user", "assistant", "user", "assistant", "user"]
    for roles in (["user"], longest):
        try:
            if built(*roles) != shown(*roles, prompt=True):
                return None
        except InputError:
            return None
    turns = ['{{ if eq .Role "' + role + '" }}' + _go(around[role][0]) + "{{ .Content }}" + _go(around[role][1])
             + "{{ end }}" for role in _ROLES if role in around]
    return "{{ range .Messages }}" + "".join(turns) + "{{ end }}" + _go(prompt)


def _go(text: str) -> str:
    """Return a text as it is written inside a template of Go's."""
    return text.replace("{{", '{{ "{{" }}')


def _quoted(text: str) -> str:
    """Return a text between three quotes, which end a value of a Modelfile.

    Raises:
        InputError: they stand in the text.
    """
    if '"""' in text:
        raise InputError('three quotes in a chat template or stop cannot be written into a Modelfile',
                         fix="export to gguf")
    return f'"""{text}"""'


def _stop(text: str) -> str:
    return _quoted(text) if '"' in text else f'"{text}"'  # Ollama knows no escapes
