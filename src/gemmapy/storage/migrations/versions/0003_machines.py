"""One's own hardware, and what it costs."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.types import TypeEngine

from gemmapy.storage.tables import UtcTime

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def _id() -> TypeEngine[int]:
    return sa.Integer().with_variant(sa.BigInteger(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "machines",
        sa.Column("id", _id(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("upstreams", sa.Text(), nullable=False),
        sa.Column("watts_busy", sa.Float(), nullable=False),
        sa.Column("watts_idle", sa.Float(), nullable=False),
        sa.Column("kwh_nusd", sa.BigInteger(), nullable=False),
        sa.Column("purchase_nusd", sa.BigInteger(), nullable=False),
        sa.Column("lifetime_years", sa.Float(), nullable=False),
        sa.Column("parallel", sa.Integer(), nullable=False),
        sa.Column("effective_at", UtcTime(), nullable=False),
        sa.Column("created_at", UtcTime(), server_default=sa.text("CURRENT_TIMESTAMP"), nullable=False),
        sa.Column("created_by", _id(), nullable=True),
        sa.Column("note", sa.String(), server_default=sa.text("''"), nullable=False),
        sa.ForeignKeyConstraint(["created_by"], ["users.id"]),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
