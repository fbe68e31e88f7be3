"""Scores on a scale, and comments about a part or an aspect of an output. Feedback that is there stays as it is."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add what a score and a critique hold; old rows have none of it."""
    op.add_column("feedback", sa.Column("score", sa.Double(), nullable=True))
    for name in ("scale", "span", "aspect"):  # the first two are JSON lists
        op.add_column("feedback", sa.Column(name, sa.Text(), nullable=True))
