"""A library of prompts with versions and `{{variables}}`; the studio's page Prompts shows it."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from bottega.core.errors import InputError, NotFoundError, suggest
from bottega.core.request import Controls
from bottega.workshop import audit
from bottega.workshop.names import check_name
from bottega.workshop.schema import PromptRow, PromptVersionRow
from bottega.workshop.store import Store

_VARIABLE = re.compile(r"\{\{[ \t]*([A-Za-z_][A-Za-z0-9_]{0,63})[ \t]*\}\}")
_LONGEST = 200_000  # characters of a body or a system text


@dataclass(frozen=True)
class PromptVersion:
    """One version of a prompt, never changed."""

    name: str
    version: int
    created: datetime
    author: str
    body: str
    system: str
    controls: dict[str, Any]
    note: str


def save(store: Store, name: str, body: str, *, author: str, system: str = "",
         controls: dict[str, Any] | None = None, note: str = "") -> int:
    """Keep a new version and return its number; what equals the newest version keeps that one's number.

    Raises:
        InputError: the name or a text is not allowed.
        ControlError: a control is not known or out of range.
    """
    check_name("prompt", name)
    for what, text, longest in (("body", body, _LONGEST), ("system text", system, _LONGEST), ("note", note, 1000)):
        if len(text) > longest:
            raise InputError(f"the {what} of prompt '{name}' has {len(text)} characters", fix=f"at most {longest}")
    if not body.strip():
        raise InputError(f"prompt '{name}' has no text", fix="write the prompt")
    chosen = Controls.parse(controls or {}, where=f"prompt {name}").model_dump(mode="json", exclude_none=True)
    with store.write() as session:
        prompt, newest = session.get(PromptRow, name), _newest(session, name)
        now = datetime.now(UTC)
        if prompt is None:
            prompt = PromptRow(name=name, created=now, deleted=None)
            session.add(prompt)
            session.flush()
        unchanged = newest is not None and (newest.body, newest.system, newest.controls) == (body, system, chosen)
        if unchanged and prompt.deleted is None and newest is not None:
            return newest.version
        prompt.deleted = None
        version = newest.version if newest is not None else 0
        if not unchanged:
            version += 1
            session.add(PromptVersionRow(name=name, version=version, created=now, author=author, body=body,
                                         system=system, controls=chosen, note=note))
        audit.append(session, actor=author, action="prompt.save", subject=name, detail={"version": version})
        return version


def get(store: Store, name: str, version: int | None = None) -> PromptVersion:
    """Return a version of a prompt, the newest unless numbered.

    Raises:
        NotFoundError: there is no such prompt or version.
    """
    with store.read() as session:
        _living(session, name)
        newest = _newest(session, name)
        if version is None or newest is None or not 1 <= version <= newest.version:
            row = newest if version is None else None
        else:
            row = session.get(PromptVersionRow, (name, version))
        if row is None:
            raise NotFoundError(f"prompt '{name}' has no version {version}",
                                fix=f"versions 1 to {newest.version if newest else 0} are there")
        return _version(row)


def names(store: Store) -> list[str]:
    """Return the names of all prompts that are not deleted, sorted."""
    with store.read() as session:
        return _names(session)


def versions(store: Store, name: str) -> list[PromptVersion]:
    """Return all versions of a prompt, newest first.

    Raises:
        NotFoundError: there is no such prompt.
    """
    with store.read() as session:
        _living(session, name)
        return [_version(row) for row in session.scalars(
            select(PromptVersionRow).where(PromptVersionRow.name == name).order_by(PromptVersionRow.version.desc()))]


def diff(store: Store, name: str, a: int, b: int) -> list[str]:
    """Return the lines of a unified diff from version `a` to `b`: system text, prompt and controls.

    Raises:
        NotFoundError: there is no such prompt or version.
    """
    return list(difflib.unified_diff(_lines(get(store, name, a)), _lines(get(store, name, b)), f"version {a}",
                                     f"version {b}", lineterm=""))


def delete(store: Store, name: str, author: str) -> None:
    """Take a prompt out of the library; saving under the name again brings its versions back.

    Raises:
        NotFoundError: there is no such prompt.
    """
    with store.write() as session:
        _living(session, name).deleted = datetime.now(UTC)
        audit.append(session, actor=author, action="prompt.delete", subject=name, detail={})


def variables(body: str) -> list[str]:
    """Return the names in `{{…}}`, each once, in order."""
    return list(dict.fromkeys(_VARIABLE.findall(body)))


def fill(body: str, values: Mapping[str, str]) -> str:
    """Return the text with each `{{name}}` replaced; what stands in a value is never replaced again.

    Raises:
        InputError: a variable has no value, or a value no variable.
    """
    wanted = variables(body)
    for name in wanted:
        if name not in values:
            raise InputError(f"the variable '{name}' has no value", fix=f"give a text for '{name}'")
    for name in values:
        if name not in wanted:
            raise InputError(f"the prompt has no variable '{name}'", fix=suggest(name, wanted))
    return _VARIABLE.sub(lambda match: values[match.group(1)], body)


def _names(session: Session) -> list[str]:
    return sorted(session.scalars(select(PromptRow.name).where(PromptRow.deleted.is_(None))))


def _living(session: Session, name: str) -> PromptRow:
    prompt = session.get(PromptRow, name)
    if prompt is None or prompt.deleted is not None:
        raise NotFoundError(f"there is no prompt '{name[:100]}'", fix=suggest(name[:100], _names(session)))
    return prompt


def _newest(session: Session, name: str) -> PromptVersionRow | None:
    return session.scalars(select(PromptVersionRow).where(PromptVersionRow.name == name)
                           .order_by(PromptVersionRow.version.desc()).limit(1)).first()


def _version(row: PromptVersionRow) -> PromptVersion:
    return PromptVersion(row.name, row.version, row.created, row.author, row.body, row.system, row.controls, row.note)


def _lines(version: PromptVersion) -> list[str]:
    controls = json.dumps(version.controls, indent=2, sort_keys=True, ensure_ascii=False)
    return ["system:", *version.system.splitlines(), "prompt:", *version.body.splitlines(), "controls:",
            *controls.splitlines()]
