"""The first tables. A migration is never edited once released: it does not import the schema, which changes on."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def _text(name: str, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.Text(), nullable=nullable)


def _integer(name: str, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.Integer(), autoincrement=False, nullable=nullable)


def _big(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.BigInteger(), autoincrement=False, nullable=False)


def _real(name: str, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.Double(), nullable=nullable)


def _flag(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Boolean(), nullable=False)


def _time(name: str, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _table(name: str, *columns: sa.Column[Any] | sa.Constraint, key: tuple[str, ...] = ("id",),
           indexes: tuple[str, ...] = ()) -> None:
    op.create_table(name, *columns, sa.PrimaryKeyConstraint(*key, name=f"pk_{name}"))
    for column in indexes:
        op.create_index(f"ix_{name}_{column}", name, [column])


def _refers(table: str, column: str, target: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [target], name=f"fk_{table}_{column}")


def upgrade() -> None:
    """Make the tables, those that others refer to first."""
    _table("works", _text("id"), _time("created"), _text("door"), _text("principal"), _text("alias"), _text("model"),
           _text("model_digest"), _text("request"), _flag("kept"), _text("status"), _text("error"),
           _integer("prompt_tokens"), _integer("new_tokens"), _big("seed"), _real("seconds"),
           _real("first_token_seconds", True), _text("lineage"), _text("verdicts"), indexes=("created",))
    _table("outputs", _text("id"), _text("work"), _integer("place"), _text("text", True), _text("finish"),
           _real("score"), _text("tokens"), sa.Column("steps", sa.LargeBinary(), nullable=True),
           _refers("outputs", "work", "works.id"), indexes=("work",))
    _table("feedback", _text("id"), _time("created"), _text("rater"), _text("kind"), _text("output"),
           _text("rejected", True), _integer("value", True), _text("text", True), _text("reasons"), _flag("consent"),
           _text("replaced_by", True), _refers("feedback", "output", "outputs.id"),
           _refers("feedback", "rejected", "outputs.id"), indexes=("created", "output", "rejected"))
    _table("prompts", _text("name"), _time("created"), _time("deleted", True), key=("name",))
    _table("prompt_versions", _text("name"), _integer("version"), _time("created"), _text("author"), _text("body"),
           _text("system"), _text("controls"), _text("note"), _refers("prompt_versions", "name", "prompts.name"),
           key=("name", "version"))
    _table("audit", _big("sequence"), _time("created"), _text("actor"), _text("action"), _text("subject"),
           _text("detail"), _text("hash"), key=("sequence",), indexes=("action", "subject"))
    _table("audit_head", _integer("id"), _big("sequence"), _text("hash"))
    _table("keys", _text("id"), _text("name"), _text("prefix"), _text("digest"), _time("created"),
           _text("created_by"), _time("expires", True), _time("last_used", True), _time("revoked", True),
           sa.UniqueConstraint("digest", name="uq_keys_digest"), indexes=("prefix",))
    _table("models", _text("name"), _text("digest"), _text("path"), _text("family"), _text("objective"),
           _flag("answers"), _text("meta"), _time("registered"), _time("seen"), key=("name", "digest"),
           indexes=("digest",))
    _table("aliases", _text("name"), _text("model"), _text("model_digest"), _time("changed"), _text("changed_by"),
           sa.ForeignKeyConstraint(["model", "model_digest"], ["models.name", "models.digest"],
                                   name="fk_aliases_model_model_digest"), key=("name",))
    _table("settings", _text("name"), _text("value"), _time("changed"), _text("changed_by"), key=("name",))
    _table("improvements", _text("id"), _time("created"), _time("updated"), _text("alias"), _text("champion"),
           _text("champion_digest"), _text("challenger"), _text("challenger_digest", True), _text("status"),
           _text("dataset"), _text("comparison", True), _text("error"), _text("decided_by"), _text("reason"),
           indexes=("created",))
