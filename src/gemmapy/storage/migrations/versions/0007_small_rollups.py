"""Rollups by number instead of name, folded into coarser grains once an hour. They are filled again from the ledger
after the upgrade (`migrate.py`)."""

from typing import Any

import sqlalchemy as sa
from alembic import op

from gemmapy.core.errors import ConfigurationError

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_SUMS = (
    *("requests", "errors", "errors_upstream", "errors_timeout", "errors_refused", "errors_interrupted", "left"),
    *("cache_hits", "estimated", "prompt_tokens", "response_tokens", "cached_prompt_tokens", "total_tokens"),
    *("prompt_nusd", "response_nusd", "total_nusd", "saved_nusd", "unpriced_requests", "unpriced_tokens"),
    *("timed", "duration_ms", "paced", "speed_mtps", "begun", "ttft_ms"),
    *("rated_positive", "rated_negative", "rated_neutral"),
)
_SPENDING = (
    *("requests", "prompt_tokens", "response_tokens", "prompt_nusd", "response_nusd", "total_nusd"),
    *("unpriced_requests", "unpriced_tokens"),
)


def _id() -> Any:
    return sa.Integer().with_variant(sa.BigInteger(), "postgresql")


def _rollup(
    name: str, *dimensions: str, columns: tuple[str, ...] = _SUMS, order: tuple[str, ...] | None = None
) -> None:
    op.create_table(
        name,
        sa.Column("grain", sa.Integer(), nullable=False),
        sa.Column("bucket", sa.Integer(), nullable=False),
        *(sa.Column(column, _id(), nullable=False) for column in dimensions),
        sa.Column("writer", sa.Integer(), nullable=False),
        *(sa.Column(column, sa.BigInteger(), nullable=False) for column in columns),
        sa.PrimaryKeyConstraint("grain", *(order or ("bucket", *dimensions)), "writer"),
        sqlite_with_rowid=False,
    )


def upgrade() -> None:
    if op.get_bind().execute(sa.text("SELECT count(*) FROM retired_days")).scalar():
        raise ConfigurationError(
            "Days of this database retired under a schema that was never released; what they add up to cannot be kept.",
            hint="Restore a backup from before 'gemmapy retire', or go on with the version that wrote it.",
        )
    for old in ("rollup_models", "rollup_users", "rollup_projects", "rollup_histograms"):
        op.drop_table(old)
    op.create_table(
        "labels",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    _rollup("rollup_models", "model_id", "endpoint_id")
    _rollup("rollup_users", "user_id", order=("user_id", "bucket"))
    _rollup("rollup_projects", "project_id", "model_id", "endpoint_id")
    _rollup("rollup_details", "user_id", "project_id", "model_id", "endpoint_id")
    _rollup("rollup_spending", "user_id", "model_id", columns=_SPENDING)
    op.create_table(
        "rollup_histograms",
        sa.Column("grain", sa.Integer(), nullable=False),
        sa.Column("bucket", sa.Integer(), nullable=False),
        sa.Column("scope", sa.Integer(), nullable=False),
        sa.Column("name", _id(), nullable=False),
        sa.Column("writer", sa.Integer(), nullable=False),
        sa.Column("bins", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("grain", "bucket", "scope", "name", "writer"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "rollup_marks",
        sa.Column("id", sa.Integer(), sa.CheckConstraint("id = 1"), nullable=False),
        sa.Column("folded_until", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "rollup_changes",
        sa.Column("day", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("day"),
    )
    op.create_index("ix_rollup_changes_revision", "rollup_changes", ["revision"])
