"""Rollups and histograms beside the ledger. They are filled from it after the upgrade (`migrate.py`)."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_SUMS = (
    *("requests", "errors", "errors_upstream", "errors_timeout", "errors_refused", "errors_interrupted", "left"),
    *("cache_hits", "estimated", "prompt_tokens", "response_tokens", "cached_prompt_tokens", "total_tokens"),
    *("prompt_nusd", "response_nusd", "total_nusd", "saved_nusd", "unpriced_requests", "unpriced_tokens"),
    *("timed", "duration_ms", "paced", "speed_mtps", "begun", "ttft_ms"),
    *("rated_positive", "rated_negative", "rated_neutral"),
)


def _rollup(name: str, *dimensions: tuple[str, Any]) -> None:
    op.create_table(
        name,
        sa.Column("grain", sa.Integer(), nullable=False),
        sa.Column("bucket", sa.Integer(), nullable=False),
        *(_column(column, kind) for column, kind in dimensions),
        sa.Column("writer", sa.Integer(), nullable=False),
        *(_column(column, sa.BigInteger()) for column in _SUMS),
        sa.PrimaryKeyConstraint("grain", "bucket", *(column for column, _ in dimensions), "writer"),
        sqlite_with_rowid=False,
    )


def _column(name: str, kind: Any) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=False)


def upgrade() -> None:
    number = sa.Integer().with_variant(sa.BigInteger(), "postgresql")
    _rollup("rollup_totals")
    _rollup("rollup_models", ("model", sa.Text()), ("endpoint", sa.Text()))
    _rollup("rollup_users", ("user_id", number), ("model", sa.Text()))
    op.create_index("idx_rollup_users_user", "rollup_users", ["user_id", "grain", "bucket"])
    _rollup("rollup_projects", ("project_id", number), ("model", sa.Text()))
    op.create_table(
        "rollup_histograms",
        sa.Column("grain", sa.Integer(), nullable=False),
        sa.Column("bucket", sa.Integer(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("measure", sa.Integer(), nullable=False),
        sa.Column("writer", sa.Integer(), nullable=False),
        sa.Column("bins", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("grain", "bucket", "scope", "name", "measure", "writer"),
        sqlite_with_rowid=False,
    )
