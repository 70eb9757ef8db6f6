"""The first schema."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.types import TypeEngine

from gemmapy.storage.tables import UtcTime

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _id() -> TypeEngine[int]:
    return sa.Integer().with_variant(sa.BigInteger(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "inflight",
        sa.Column("request_id", sa.LargeBinary(length=16), nullable=False),
        sa.Column("writer", sa.Integer(), nullable=False),
        sa.Column("user_id", _id(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("endpoint", sa.String(), nullable=False),
        sa.Column("started_at", UtcTime(), nullable=False),
        sa.Column("stream", sa.Boolean(), nullable=False),
        sa.Column("api_key_id", _id(), nullable=True),
        sa.Column("project_id", _id(), nullable=True),
        sa.Column("end_user", sa.String(), nullable=True),
        sa.Column("client_request_id", sa.String(), nullable=True),
        sa.Column("upstream", sa.String(), nullable=True),
        sa.Column("price_id", _id(), nullable=True),
        sa.Column("prompt_estimate", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("request_id"),
    )
    op.create_table(
        "projects",
        sa.Column("id", _id(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("created_at", UtcTime(), server_default=sa.text("CURRENT_TIMESTAMP"), nullable=False),
        sa.Column("archived_at", UtcTime(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "revisions",
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("subject"),
    )
    op.create_table(
        "users",
        sa.Column("id", _id(), nullable=False),
        sa.Column("username", sa.String(), nullable=True),
        sa.Column("password_hash", sa.String(), nullable=True),
        sa.Column("is_admin", sa.Boolean(), server_default=sa.text("0"), nullable=False),
        sa.Column("created_at", UtcTime(), server_default=sa.text("CURRENT_TIMESTAMP"), nullable=False),
        sa.Column("disabled_at", UtcTime(), nullable=True),
        sa.Column("deleted_at", UtcTime(), nullable=True),
        sa.Column("sessions_from", UtcTime(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("username"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "api_keys",
        sa.Column("id", _id(), nullable=False),
        sa.Column("user_id", _id(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("prefix", sa.String(), nullable=False),
        sa.Column("key_hash", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", UtcTime(), server_default=sa.text("CURRENT_TIMESTAMP"), nullable=False),
        sa.Column("expires_at", UtcTime(), nullable=True),
        sa.Column("revoked_at", UtcTime(), nullable=True),
        sa.Column("last_used_at", UtcTime(), nullable=True),
        sa.Column("models", sa.Text(), nullable=True),
        sa.Column("routes", sa.Text(), nullable=True),
        sa.Column("project_id", _id(), nullable=True),
        sa.Column("is_trusted", sa.Boolean(), server_default=sa.text("0"), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"],
            ["projects.id"],
        ),
        sa.ForeignKeyConstraint(
            ["user_id"],
            ["users.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("key_hash"),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_api_keys_user_id"), "api_keys", ["user_id"], unique=False)
    op.create_table(
        "prices",
        sa.Column("id", _id(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("input_nusd_per_1k", sa.BigInteger(), nullable=False),
        sa.Column("output_nusd_per_1k", sa.BigInteger(), nullable=False),
        sa.Column("cached_input_nusd_per_1k", sa.BigInteger(), nullable=True),
        sa.Column("request_nusd", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("compute_nusd_per_second", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("effective_at", UtcTime(), nullable=False),
        sa.Column("created_at", UtcTime(), server_default=sa.text("CURRENT_TIMESTAMP"), nullable=False),
        sa.Column("created_by", _id(), nullable=True),
        sa.Column("source", sa.String(), server_default=sa.text("('')"), nullable=False),
        sa.Column("withdrawn_at", UtcTime(), nullable=True),
        sa.Column("withdrawn_by", _id(), nullable=True),
        sa.ForeignKeyConstraint(
            ["created_by"],
            ["users.id"],
        ),
        sa.ForeignKeyConstraint(
            ["withdrawn_by"],
            ["users.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("idx_prices_model", "prices", ["model", "effective_at"], unique=False)
    op.create_table(
        "project_members",
        sa.Column("project_id", _id(), nullable=False),
        sa.Column("user_id", _id(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"],
            ["projects.id"],
        ),
        sa.ForeignKeyConstraint(
            ["user_id"],
            ["users.id"],
        ),
        sa.PrimaryKeyConstraint("project_id", "user_id"),
    )
    op.create_table(
        "llm_metrics",
        sa.Column("id", _id(), nullable=False),
        sa.Column("user_id", _id(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("endpoint", sa.Text(), nullable=False),
        sa.Column("prompt_tokens", sa.Integer(), nullable=True),
        sa.Column("response_tokens", sa.Integer(), nullable=True),
        sa.Column("total_tokens", sa.Integer(), nullable=True),
        sa.Column("duration_ms", sa.Integer(), nullable=True),
        sa.Column("tokens_per_second", sa.Float(), nullable=True),
        sa.Column("cached", sa.Boolean(), server_default=sa.text("0"), nullable=True),
        sa.Column("error", sa.Boolean(), server_default=sa.text("0"), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("user_rating", sa.Integer(), sa.CheckConstraint("user_rating IN (-1, 0, 1)"), nullable=True),
        sa.Column("created_at", UtcTime(), server_default=sa.text("CURRENT_TIMESTAMP"), nullable=True),
        sa.Column("request_id", sa.LargeBinary(length=16), nullable=True),
        sa.Column("started_at", UtcTime(), nullable=True),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("error_code", sa.String(), nullable=True),
        sa.Column("finish_reason", sa.String(), nullable=True),
        sa.Column("stream", sa.Boolean(), nullable=True),
        sa.Column("estimated", sa.Boolean(), server_default=sa.text("0"), nullable=True),
        sa.Column("cached_prompt_tokens", sa.Integer(), nullable=True),
        sa.Column("ttft_ms", sa.Integer(), nullable=True),
        sa.Column("queue_ms", sa.Integer(), nullable=True),
        sa.Column("load_ms", sa.Integer(), nullable=True),
        sa.Column("prompt_ms", sa.Integer(), nullable=True),
        sa.Column("generation_ms", sa.Integer(), nullable=True),
        sa.Column("cost_nusd", sa.BigInteger(), nullable=True),
        sa.Column("prompt_cost_nusd", sa.BigInteger(), nullable=True),
        sa.Column("response_cost_nusd", sa.BigInteger(), nullable=True),
        sa.Column("saved_nusd", sa.BigInteger(), nullable=True),
        sa.Column("price_id", _id(), nullable=True),
        sa.Column("upstream", sa.String(), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("1"), nullable=True),
        sa.Column("api_key_id", _id(), nullable=True),
        sa.Column("project_id", _id(), nullable=True),
        sa.Column("end_user", sa.String(), nullable=True),
        sa.Column("client_request_id", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(
            ["price_id"],
            ["prices.id"],
        ),
        sa.ForeignKeyConstraint(
            ["user_id"],
            ["users.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("idx_metrics_created", "llm_metrics", ["created_at"], unique=False)
    op.create_index("idx_metrics_model", "llm_metrics", ["model"], unique=False)
    op.create_index("idx_metrics_request", "llm_metrics", ["request_id"], unique=True)
    op.create_index("idx_metrics_user", "llm_metrics", ["user_id"], unique=False)
    op.bulk_insert(
        sa.table("revisions", sa.column("subject"), sa.column("revision")),
        [{"subject": "people", "revision": 0}, {"subject": "prices", "revision": 0}],
    )
