"""Every table, once, for every storage engine.

`llm_metrics` begins with the contract's columns, in its order, under its names; what the design adds follows. Times are
UTC. Money is integer nano-USD. Migrations in `migrations/` lead to exactly this; a test compares.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    TypeDecorator,
    text,
)
from sqlalchemy import DateTime as SqlDateTime
from sqlalchemy.types import TypeEngine

from gemmapy.metrics.measures import ADJUSTABLE, COLUMNS, SPENDING

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def time_text(moment: datetime) -> str:
    """An aware time as SQLite holds it, in UTC: `2026-11-23 14:00:00.123`. Sorts as text; its functions read it."""
    return moment.astimezone(UTC).isoformat(" ", "milliseconds")[:23]


def millis(moment: datetime) -> int:
    """An aware time as milliseconds since 1970."""
    return (moment - _EPOCH) // _MILLISECOND


def parse_time(stored: str) -> datetime:
    """The reverse of `time_text`; also reads SQLite's own CURRENT_TIMESTAMP, which has no fraction."""
    return datetime.fromisoformat(stored).replace(tzinfo=UTC)


class UtcTime(TypeDecorator[datetime]):
    """An aware UTC time: text to the millisecond in SQLite, `timestamptz` in PostgreSQL."""

    impl = String
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "sqlite":
            # TIMESTAMP, as the contract declares it; SqlDateTime would add a conversion of its own.
            return dialect.type_descriptor(_SqliteTimestamp())
        return dialect.type_descriptor(SqlDateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None or dialect.name != "sqlite":
            return value
        return time_text(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None or dialect.name != "sqlite":
            return value
        return parse_time(value)


class UtcMillis(UtcTime):
    """The same, as milliseconds since 1970 in SQLite, which take a third of the room; also reads what was text."""

    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None or dialect.name != "sqlite":
            return value
        return millis(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if isinstance(value, int):
            return datetime.fromtimestamp(value / 1000, UTC)
        return super().process_result_value(value, dialect)


class _SqliteTimestamp(String):
    __visit_name__ = "TIMESTAMP"


metadata = MetaData()
_now = text("CURRENT_TIMESTAMP")
_Id = Integer().with_variant(BigInteger(), "postgresql")
_Money = BigInteger

users = Table(
    "users",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("username", String, unique=True),  # NULL once deleted: the row stays, the person is forgotten
    Column("password_hash", String),
    Column("is_admin", Boolean, nullable=False, server_default=text("0")),
    Column("created_at", UtcTime, nullable=False, server_default=_now),
    Column("disabled_at", UtcTime),
    Column("deleted_at", UtcTime),
    Column("sessions_from", UtcTime),  # login tokens issued before are void: password change, sign-out everywhere
    Column("weight", Float),  # its share where requests wait, and its limits; NULL: what the settings say of everybody
    Column("limit_concurrent", Integer),
    Column("limit_concurrent_per_model", Integer),
    Column("limit_requests_per_minute", Integer),
    Column("limit_tokens_per_minute", Integer),
    sqlite_autoincrement=True,  # ids are never reused
)

projects = Table(
    "projects",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("name", String, nullable=False, unique=True),
    Column("created_at", UtcTime, nullable=False, server_default=_now),
    Column("archived_at", UtcTime),
    sqlite_autoincrement=True,
)

project_members = Table(
    "project_members",
    metadata,
    Column("project_id", _Id, ForeignKey("projects.id"), primary_key=True),
    Column("user_id", _Id, ForeignKey("users.id"), primary_key=True),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("user_id", _Id, ForeignKey("users.id"), nullable=False, index=True),
    Column("name", String, nullable=False),
    Column("prefix", String, nullable=False),  # the first characters, to tell keys apart in a list
    Column("key_hash", LargeBinary, nullable=False, unique=True),  # SHA-256 of 256 random bits: no salt needed
    Column("created_at", UtcTime, nullable=False, server_default=_now),
    Column("expires_at", UtcTime),
    Column("revoked_at", UtcTime),
    Column("last_used_at", UtcTime),
    Column("models", Text),  # JSON list of patterns; NULL is all
    Column("routes", Text),  # JSON list of path prefixes; NULL is all
    Column("project_id", _Id, ForeignKey("projects.id")),
    Column("is_trusted", Boolean, nullable=False, server_default=text("0")),  # may name its requests' end users
    Column("limit_concurrent", Integer),  # limits of its own, beside its user's
    Column("limit_requests_per_minute", Integer),
    Column("limit_tokens_per_minute", Integer),
    sqlite_autoincrement=True,
)

prices = Table(
    "prices",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("model", String, nullable=False),  # a name, or a prefix that ends in *
    Column("input_nusd_per_1k", _Money, nullable=False),
    Column("output_nusd_per_1k", _Money, nullable=False),
    Column("cached_input_nusd_per_1k", _Money),  # NULL: cached input costs what input costs
    Column("request_nusd", _Money, nullable=False, server_default=text("0")),
    Column("compute_nusd_per_second", _Money, nullable=False, server_default=text("0")),
    Column("effective_at", UtcTime, nullable=False),
    Column("created_at", UtcTime, nullable=False, server_default=_now),
    Column("created_by", _Id, ForeignKey("users.id")),
    Column("source", String, nullable=False, server_default=text("''")),
    Column("withdrawn_at", UtcTime),
    Column("withdrawn_by", _Id, ForeignKey("users.id")),
    sqlite_autoincrement=True,
)
Index("idx_prices_model", prices.c.model, prices.c.effective_at)

machines = Table(
    # One's own hardware: a row is a machine as it is from a moment on, until a later one of its name.
    "machines",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("name", String, nullable=False),
    Column("upstreams", Text, nullable=False),  # JSON list of names; empty: out of service
    Column("watts_busy", Float, nullable=False),
    Column("watts_idle", Float, nullable=False),
    Column("kwh_nusd", _Money, nullable=False),
    Column("purchase_nusd", _Money, nullable=False),
    Column("lifetime_years", Float, nullable=False),
    Column("parallel", Integer, nullable=False),  # requests that it works on at once
    Column("effective_at", UtcTime, nullable=False),
    Column("created_at", UtcTime, nullable=False, server_default=_now),
    Column("created_by", _Id, ForeignKey("users.id")),
    Column("note", String, nullable=False, server_default=text("''")),
    sqlite_autoincrement=True,
)

inflight = Table(
    "inflight",
    metadata,
    Column("request_id", LargeBinary(16), primary_key=True),
    Column("writer", Integer, nullable=False),  # the leased slot of the process that serves it
    Column("user_id", _Id, nullable=False),
    Column("model", String, nullable=False),
    Column("endpoint", String, nullable=False),
    Column("started_at", UtcTime, nullable=False),
    Column("stream", Boolean, nullable=False),
    Column("api_key_id", _Id),
    Column("project_id", _Id),
    Column("end_user", String),
    Column("client_request_id", String),
    Column("upstream", String),
    Column("price_id", _Id),
    Column("prompt_estimate", Integer),
    Column("requested_model", Text),
)

llm_metrics = Table(
    "llm_metrics",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("user_id", _Id, ForeignKey("users.id"), nullable=False),
    Column("model", Text, nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("prompt_tokens", Integer),
    Column("response_tokens", Integer),
    Column("total_tokens", Integer),
    Column("duration_ms", Integer),
    Column("tokens_per_second", Float),
    Column("cached", Boolean, server_default=text("0")),
    Column("error", Boolean, server_default=text("0")),
    Column("error_message", Text),
    Column("user_rating", Integer, CheckConstraint("user_rating IN (-1, 0, 1)")),
    Column("created_at", UtcTime, server_default=_now),
    Column("request_id", LargeBinary(16)),
    Column("started_at", UtcMillis),
    Column("status", Integer),
    Column("error_code", String),
    Column("finish_reason", String),
    Column("stream", Boolean),
    Column("estimated", Boolean, server_default=text("0")),
    Column("cached_prompt_tokens", Integer),
    Column("ttft_ms", Integer),
    Column("queue_ms", Integer),
    Column("load_ms", Integer),
    Column("prompt_ms", Integer),
    Column("generation_ms", Integer),
    Column("cost_nusd", _Money),  # NULL: unpriced
    Column("prompt_cost_nusd", _Money),
    Column("response_cost_nusd", _Money),
    Column("saved_nusd", _Money),
    Column("price_id", _Id, ForeignKey("prices.id")),
    Column("upstream", String),
    Column("attempts", Integer, server_default=text("1")),
    Column("api_key_id", _Id),
    Column("project_id", _Id),
    Column("end_user", String),
    Column("client_request_id", String),
    Column("requested_model", Text),  # what was asked for, where another model took its place
    Column("attempt_log", Text),  # JSON list of every attempt, where there was more than the one that the row describes
    sqlite_autoincrement=True,
)
Index("idx_metrics_model", llm_metrics.c.model)
Index("idx_metrics_created", llm_metrics.c.created_at)
Index("idx_metrics_user", llm_metrics.c.user_id)
Index("idx_metrics_request", llm_metrics.c.request_id, unique=True)

repricings = Table(
    # One row each time the past was priced anew: who asked for what, and why.
    "repricings",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("created_at", UtcTime, nullable=False),
    Column("created_by", _Id, ForeignKey("users.id")),
    Column("reason", Text, nullable=False),
    Column("window_start", UtcTime, nullable=False),
    Column("window_end", UtcTime, nullable=False),
    Column("prices_at", UtcTime),  # NULL: back to what was recorded
    Column("model", Text),
    Column("user_id", _Id),
    Column("project_id", _Id),
    Column("unpriced_only", Boolean, nullable=False),
    Column("finished_at", UtcTime),  # NULL: broken off; the same again goes on where it ended
    sqlite_autoincrement=True,
)
adjustments = Table(
    # What a repricing changed of one request: differences, which are added to its row of the ledger and never change.
    "adjustments",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("repricing_id", _Id, ForeignKey("repricings.id"), nullable=False, index=True),
    Column("created_at", UtcTime, nullable=False),
    Column("metric_id", _Id, nullable=False),
    # The request's own, so that figures need not join: its moment, and whatever they can be narrowed by.
    Column("metric_created_at", UtcTime, nullable=False),
    Column("user_id", _Id, nullable=False),
    Column("model", Text, nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("project_id", _Id),
    Column("api_key_id", _Id),
    Column("status", Integer),
    Column("price_id", _Id, ForeignKey("prices.id")),  # the price it has from now on; NULL: unpriced again
    *(Column(name, _Money, nullable=False) for name in ADJUSTABLE),
    sqlite_autoincrement=True,
)
Index("idx_adjustments_metric", adjustments.c.metric_id)
Index("idx_adjustments_moment", adjustments.c.metric_created_at)

retired_days = Table(
    # The UTC days whose rows of the ledger were deleted: what they added up to, and a checksum of their rollups.
    "retired_days",
    metadata,
    Column("day", Integer, primary_key=True, autoincrement=False),  # its first second since 1970
    Column("retired_at", UtcTime, nullable=False),
    Column("last_metric_id", _Id, nullable=False),
    Column("deleted_at", UtcTime),  # NULL: rows are still being deleted
    Column("checksum", String, nullable=False),
    *(Column(column, BigInteger, nullable=False) for column in COLUMNS),
)

closings = Table(
    # The months that are closed: their statements are final.
    "closings",
    metadata,
    Column("month", String(7), primary_key=True),  # as in 2026-10, UTC
    Column("closed_at", UtcTime, nullable=False),
    Column("closed_by", _Id, ForeignKey("users.id")),
    Column("last_adjustment_id", _Id, nullable=False),  # later ones come into the next month's statements
    Column("requests", Integer, nullable=False),
    Column("total_nusd", _Money, nullable=False),
    Column("adjustments_nusd", _Money, nullable=False),
)
statements = Table(
    "statements",
    metadata,
    Column("number", _Id, primary_key=True, autoincrement=False),  # 1, 2, 3 ... without a gap
    Column("month", String(7), ForeignKey("closings.month"), nullable=False, index=True),
    Column("kind", String, nullable=False),  # user or project
    Column("subject_id", _Id, nullable=False),
    Column("subject", String, nullable=False),  # the name at the closing
    Column("total_nusd", _Money, nullable=False),
    Column("content", Text, nullable=False),  # JSON, as it is shown
    Column("checksum", String, nullable=False),  # SHA-256 of the content
)
Index("idx_statements_subject", statements.c.kind, statements.c.subject_id)


labels = Table(
    # Names of models and endpoints, which rollups hold by number: a tenth of the room, and quicker to compare.
    "labels",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
)


def _rollup(
    name: str, *dimensions: str, columns: tuple[str, ...] = COLUMNS, order: tuple[str, ...] = ("bucket",)
) -> Table:
    """Totals of one grain, bucket (its first second since 1970), combination of dimensions, and writer. Rows lie in the
    order of the buckets, or of what else is asked for by range."""
    keys = ("bucket", *dimensions)
    return Table(
        name,
        metadata,
        Column("grain", Integer, nullable=False),
        *(Column(key, Integer if key == "bucket" else _Id, nullable=False) for key in keys),
        Column("writer", Integer, nullable=False),
        *(Column(column, BigInteger, nullable=False) for column in columns),
        PrimaryKeyConstraint("grain", *order, *(key for key in keys if key not in order), "writer"),
        sqlite_with_rowid=False,
    )


rollup_totals = _rollup("rollup_totals")
rollup_models = _rollup("rollup_models", "model_id", "endpoint_id")
rollup_users = _rollup("rollup_users", "user_id", order=("user_id", "bucket"))
rollup_projects = _rollup("rollup_projects", "project_id", "model_id", "endpoint_id")
rollup_details = _rollup("rollup_details", "user_id", "project_id", "model_id", "endpoint_id")  # project 0: none
rollup_spending = _rollup("rollup_spending", "user_id", "model_id", columns=SPENDING)
rollup_histograms = Table(
    # How many requests have a value in which bin, of all measures, packed (metrics/histogram.py): of all requests, of a
    # model, an endpoint, a user, a project.
    "rollup_histograms",
    metadata,
    Column("grain", Integer, primary_key=True),
    Column("bucket", Integer, primary_key=True),
    Column("scope", Integer, primary_key=True),  # a place in storage.rollups.SCOPES
    Column("name", _Id, primary_key=True),  # 0, a label, a user or a project
    Column("writer", Integer, primary_key=True),
    Column("bins", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)
rollup_marks = Table(
    # One row: the hour up to which quarters of an hour and hours are folded into the coarser grains.
    "rollup_marks",
    metadata,
    Column("id", Integer, CheckConstraint("id = 1"), primary_key=True),
    Column("folded_until", Integer, nullable=False),
)
rollup_changes = Table(
    # The UTC days that were changed after they had been folded, and the books' revision at the last time.
    "rollup_changes",
    metadata,
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("revision", Integer, nullable=False, index=True),
)

revisions = Table(
    # One row a subject ("people", "prices"), counted up by every change: what other processes poll to see it.
    "revisions",
    metadata,
    Column("subject", String, primary_key=True),
    Column("revision", Integer, nullable=False),
)

COMING, HERE, GOING = "coming", "here", "going"
"""Stages of a document."""

# Documents. Their full text is in `chunk_words`, which each engine makes in its own way (fulltext.py).

collections = Table(
    "collections",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("owner_id", _Id, ForeignKey("users.id"), nullable=False),
    Column("name", String, nullable=False),
    Column("shared_with_all", Boolean, nullable=False, server_default=text("0")),
    Column("project_id", _Id, ForeignKey("projects.id")),  # shared with its members
    Column("embedding_model", String),  # NULL: the setting's
    Column("created_at", UtcTime, nullable=False, server_default=_now),
    sqlite_autoincrement=True,
)
Index("idx_collections_name", collections.c.owner_id, collections.c.name, unique=True)

documents = Table(
    "documents",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("collection_id", _Id, ForeignKey("collections.id"), nullable=False),
    Column("title", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("media_type", String, nullable=False),
    Column("metadata", Text, nullable=False),  # a JSON object
    Column("content", Text, nullable=False),
    Column("content_hash", LargeBinary(32), nullable=False),
    Column("size_bytes", Integer, nullable=False),
    Column("project_id", _Id),  # who pays for its embedding
    Column("created_at", UtcTime, nullable=False, server_default=_now),
    # A large one comes and goes in many small transactions; only what is here is shown to anybody.
    Column("stage", String, nullable=False, server_default=text("'here'")),
    sqlite_autoincrement=True,
)
Index("idx_documents_unfinished", documents.c.stage, sqlite_where=documents.c.stage != HERE)
Index("idx_documents_content", documents.c.collection_id, documents.c.content_hash, unique=True)

chunks = Table(
    "chunks",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("document_id", _Id, ForeignKey("documents.id"), nullable=False),
    Column("ordinal", Integer, nullable=False),
    Column("start", Integer, nullable=False),  # characters of the document's content
    Column("end", Integer, nullable=False),
    Column("heading", Text, nullable=False),
    Column("embedding_model", String),  # whose vector it has; here, so that looking for those without reads no vector
    Column("dimension", Integer),  # 0: the model could not take this chunk
    sqlite_autoincrement=True,  # ids are never reused: indexes in memory go by them
)
Index("idx_chunks_document", chunks.c.document_id, chunks.c.ordinal, unique=True)

embeddings = Table(
    "embeddings",
    metadata,
    Column("chunk_id", _Id, ForeignKey("chunks.id"), primary_key=True),
    Column("vector", LargeBinary, nullable=False),  # float32, little-endian, of length 1
)
