"""Limits of users and keys, and users' shares where requests wait."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("users", sa.Column("weight", sa.Float()))
    for name in ("concurrent", "concurrent_per_model", "requests_per_minute", "tokens_per_minute"):
        op.add_column("users", sa.Column(f"limit_{name}", sa.Integer()))
    for name in ("concurrent", "requests_per_minute", "tokens_per_minute"):
        op.add_column("api_keys", sa.Column(f"limit_{name}", sa.Integer()))
