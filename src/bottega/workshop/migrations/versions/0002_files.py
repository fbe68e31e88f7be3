"""Outputs that are files: pictures. Texts that are there already stay texts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add what kind of output it is, and the file."""
    op.add_column("outputs", sa.Column("media_type", sa.Text(), nullable=False, server_default="text/plain"))
    op.add_column("outputs", sa.Column("file", sa.LargeBinary(), nullable=True))
