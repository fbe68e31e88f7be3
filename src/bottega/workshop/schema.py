"""Tables of the workshop's store, the same on SQLite and PostgreSQL; `pytest tests/workshop/test_store.py` opens both.

Change a table here and add a migration in `migrations/versions`; a test compares the two.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, ClassVar

from sqlalchemy import (
    BigInteger,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    LargeBinary,
    MetaData,
    Text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from sqlalchemy.types import TypeDecorator

from bottega.core.files import canonical_json

_ESCAPED = "\x01json:"  # begins a text that is kept as a JSON string


def storable(text: str) -> bool:
    """Return whether both databases can hold a text as it is: no NUL character, no half of a surrogate pair."""
    return "\0" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)


class Words(TypeDecorator[str]):
    """Any Python text, returned exactly.

    PostgreSQL refuses NUL characters and both databases refuse lone surrogates. A text that holds one is kept as an
    escaped JSON string behind a mark.
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Escape what the database cannot hold."""
        if value is None or (storable(value) and not value.startswith(_ESCAPED)):
            return value
        return _ESCAPED + json.dumps(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        """Undo the escape."""
        if value is None or not value.startswith(_ESCAPED):
            return value
        return str(json.loads(value[len(_ESCAPED):]))


class Json(TypeDecorator[Any]):
    """A plain value as canonical JSON text: equal values have equal bytes, and any text in them survives."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        """Write JSON; what UTF-8 cannot hold is escaped (JSON escapes NUL by itself)."""
        if value is None:
            return None
        text = canonical_json(value)
        return text if storable(text) else json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        """Read JSON."""
        return None if value is None else json.loads(value)


class Moment(TypeDecorator[datetime]):
    """A point in time: aware on the way in, UTC on the way out."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Turn into UTC; SQLite keeps it without the zone.

        Raises:
            ValueError: the time has no zone.
        """
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value} has no time zone: use datetime.now(UTC)")
        moment = value.astimezone(UTC)
        return moment if dialect.name == "postgresql" else moment.replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return aware UTC."""
        if value is None:
            return None
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


class Base(DeclarativeBase):
    """Base of all tables."""

    metadata = MetaData(naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s", "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s", "pk": "pk_%(table_name)s"})
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        str: Words, float: Double, datetime: Moment, bytes: LargeBinary, dict[str, Any]: Json, list[Any]: Json}


class WorkRow(Base):
    """One request and how it ended; `request` loses its content when retention says so."""

    __tablename__ = "works"
    id: Mapped[str] = mapped_column(primary_key=True)
    created: Mapped[datetime] = mapped_column(index=True)
    door: Mapped[str]
    principal: Mapped[str]
    alias: Mapped[str]
    model: Mapped[str]
    model_digest: Mapped[str]
    request: Mapped[dict[str, Any]]
    kept: Mapped[bool]  # false: content was never kept or is forgotten
    status: Mapped[str]
    error: Mapped[str]
    prompt_tokens: Mapped[int]
    new_tokens: Mapped[int]
    seed: Mapped[int] = mapped_column(BigInteger)
    seconds: Mapped[float]
    first_token_seconds: Mapped[float | None]
    lineage: Mapped[dict[str, Any]]
    verdicts: Mapped[list[Any]]
    outputs: Mapped[list[OutputRow]] = relationship(order_by="OutputRow.place", back_populates="parent")


class OutputRow(Base):
    """One of the n outputs of a work; `steps` is zlib-compressed JSON, `file` what was delivered instead of a text."""

    __tablename__ = "outputs"
    id: Mapped[str] = mapped_column(primary_key=True)
    work: Mapped[str] = mapped_column(ForeignKey("works.id"), index=True)
    place: Mapped[int]
    text: Mapped[str | None]
    finish: Mapped[str]
    score: Mapped[float]
    tokens: Mapped[list[Any]]
    steps: Mapped[bytes | None] = mapped_column(deferred=True)
    media_type: Mapped[str] = mapped_column(server_default="text/plain")
    file: Mapped[bytes | None] = mapped_column(deferred=True)
    parent: Mapped[WorkRow] = relationship(back_populates="outputs")


class FeedbackRow(Base):
    """What a person said about an output; a later one of the same rater about the same takes its place."""

    __tablename__ = "feedback"
    id: Mapped[str] = mapped_column(primary_key=True)
    created: Mapped[datetime] = mapped_column(index=True)
    rater: Mapped[str]
    kind: Mapped[str]
    output: Mapped[str] = mapped_column(ForeignKey("outputs.id"), index=True)
    rejected: Mapped[str | None] = mapped_column(ForeignKey("outputs.id"), index=True)
    value: Mapped[int | None]
    text: Mapped[str | None]
    score: Mapped[float | None]
    scale: Mapped[list[Any] | None]  # lowest and highest score
    span: Mapped[list[Any] | None]  # first character of a critique and the one after the last
    aspect: Mapped[str | None]
    reasons: Mapped[list[Any]]
    consent: Mapped[bool]
    replaced_by: Mapped[str | None]


class PromptRow(Base):
    """A saved prompt's name; `deleted` hides it, its versions stay."""

    __tablename__ = "prompts"
    name: Mapped[str] = mapped_column(primary_key=True)
    created: Mapped[datetime]
    deleted: Mapped[datetime | None]


class PromptVersionRow(Base):
    """One version of a prompt, never changed."""

    __tablename__ = "prompt_versions"
    name: Mapped[str] = mapped_column(ForeignKey("prompts.name"), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    created: Mapped[datetime]
    author: Mapped[str]
    body: Mapped[str]
    system: Mapped[str]
    controls: Mapped[dict[str, Any]]
    note: Mapped[str]


class AuditRow(Base):
    """One event; `hash` covers it and the event before it."""

    __tablename__ = "audit"
    sequence: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    created: Mapped[datetime]
    actor: Mapped[str]
    action: Mapped[str] = mapped_column(index=True)
    subject: Mapped[str] = mapped_column(index=True)
    detail: Mapped[str]  # canonical JSON
    hash: Mapped[str]


class AuditHeadRow(Base):
    """The one row that says where the chain ends, so that a cut tail is seen too."""

    __tablename__ = "audit_head"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    sequence: Mapped[int] = mapped_column(BigInteger)
    hash: Mapped[str]


class KeyRow(Base):
    """An API key; of the secret only its SHA-256 and first characters are kept."""

    __tablename__ = "keys"
    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    prefix: Mapped[str] = mapped_column(index=True)
    digest: Mapped[str] = mapped_column(unique=True)
    created: Mapped[datetime]
    created_by: Mapped[str]
    expires: Mapped[datetime | None]
    last_used: Mapped[datetime | None]
    revoked: Mapped[datetime | None]


class ModelRow(Base):
    """A model folder that was seen; a name made again has one row for each digest."""

    __tablename__ = "models"
    name: Mapped[str] = mapped_column(primary_key=True)
    digest: Mapped[str] = mapped_column(primary_key=True, index=True)
    path: Mapped[str]
    family: Mapped[str]
    objective: Mapped[str]
    answers: Mapped[bool]
    meta: Mapped[dict[str, Any]]
    registered: Mapped[datetime]
    seen: Mapped[datetime]


class AliasRow(Base):
    """A name that people ask for, and the model it stands for now."""

    __tablename__ = "aliases"
    name: Mapped[str] = mapped_column(primary_key=True)
    model: Mapped[str]
    model_digest: Mapped[str]
    changed: Mapped[datetime]
    changed_by: Mapped[str]
    __table_args__ = (ForeignKeyConstraint(["model", "model_digest"], ["models.name", "models.digest"]),)


class SettingRow(Base):
    """A setting that is not at its default."""

    __tablename__ = "settings"
    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[Any] = mapped_column(Json)
    changed: Mapped[datetime]
    changed_by: Mapped[str]


class ImprovementRow(Base):
    """A challenger's way from feedback to a decision."""

    __tablename__ = "improvements"
    id: Mapped[str] = mapped_column(primary_key=True)
    created: Mapped[datetime] = mapped_column(index=True)
    updated: Mapped[datetime]
    alias: Mapped[str]
    champion: Mapped[str]
    champion_digest: Mapped[str]
    challenger: Mapped[str]
    challenger_digest: Mapped[str | None]
    status: Mapped[str]
    dataset: Mapped[dict[str, Any]]
    comparison: Mapped[dict[str, Any] | None]
    error: Mapped[str]
    decided_by: Mapped[str]
    reason: Mapped[str]
