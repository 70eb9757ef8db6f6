"""The past priced anew, months closed, old days retired."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.types import TypeEngine

from gemmapy.storage.tables import UtcTime

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_ADJUSTABLE = ("prompt_nusd", "response_nusd", "total_nusd", "saved_nusd", "unpriced_requests", "unpriced_tokens")
_SUMS = (
    *("requests", "errors", "errors_upstream", "errors_timeout", "errors_refused", "errors_interrupted", "left"),
    *("cache_hits", "estimated", "prompt_tokens", "response_tokens", "cached_prompt_tokens", "total_tokens"),
    *("prompt_nusd", "response_nusd", "total_nusd", "saved_nusd", "unpriced_requests", "unpriced_tokens"),
    *("timed", "duration_ms", "paced", "speed_mtps", "begun", "ttft_ms"),
    *("rated_positive", "rated_negative", "rated_neutral"),
)


def _id() -> TypeEngine[int]:
    return sa.Integer().with_variant(sa.BigInteger(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "repricings",
        sa.Column("id", _id(), nullable=False),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.Column("created_by", _id(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("window_start", UtcTime(), nullable=False),
        sa.Column("window_end", UtcTime(), nullable=False),
        sa.Column("prices_at", UtcTime(), nullable=True),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("user_id", _id(), nullable=True),
        sa.Column("project_id", _id(), nullable=True),
        sa.Column("unpriced_only", sa.Boolean(), nullable=False),
        sa.Column("finished_at", UtcTime(), nullable=True),
        sa.ForeignKeyConstraint(["created_by"], ["users.id"]),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "adjustments",
        sa.Column("id", _id(), nullable=False),
        sa.Column("repricing_id", _id(), nullable=False),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.Column("metric_id", _id(), nullable=False),
        sa.Column("metric_created_at", UtcTime(), nullable=False),
        sa.Column("user_id", _id(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("endpoint", sa.Text(), nullable=False),
        sa.Column("project_id", _id(), nullable=True),
        sa.Column("api_key_id", _id(), nullable=True),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("price_id", _id(), nullable=True),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in _ADJUSTABLE),
        sa.ForeignKeyConstraint(["price_id"], ["prices.id"]),
        sa.ForeignKeyConstraint(["repricing_id"], ["repricings.id"]),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_adjustments_repricing_id", "adjustments", ["repricing_id"])
    op.create_index("idx_adjustments_metric", "adjustments", ["metric_id"])
    op.create_index("idx_adjustments_moment", "adjustments", ["metric_created_at"])
    op.create_table(
        "retired_days",
        sa.Column("day", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("retired_at", UtcTime(), nullable=False),
        sa.Column("last_metric_id", _id(), nullable=False),
        sa.Column("deleted_at", UtcTime(), nullable=True),
        sa.Column("checksum", sa.String(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in _SUMS),
        sa.PrimaryKeyConstraint("day"),
    )
    op.create_table(
        "closings",
        sa.Column("month", sa.String(length=7), nullable=False),
        sa.Column("closed_at", UtcTime(), nullable=False),
        sa.Column("closed_by", _id(), nullable=True),
        sa.Column("last_adjustment_id", _id(), nullable=False),
        sa.Column("requests", sa.Integer(), nullable=False),
        sa.Column("total_nusd", sa.BigInteger(), nullable=False),
        sa.Column("adjustments_nusd", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["closed_by"], ["users.id"]),
        sa.PrimaryKeyConstraint("month"),
    )
    op.create_table(
        "statements",
        sa.Column("number", _id(), autoincrement=False, nullable=False),
        sa.Column("month", sa.String(length=7), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("subject_id", _id(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("total_nusd", sa.BigInteger(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("checksum", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["month"], ["closings.month"]),
        sa.PrimaryKeyConstraint("number"),
    )
    op.create_index("ix_statements_month", "statements", ["month"])
    op.create_index("idx_statements_subject", "statements", ["kind", "subject_id"])
