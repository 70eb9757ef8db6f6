"""Documents: collections, documents, chunks, embeddings, and the full text of chunks."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    number = sa.Integer().with_variant(sa.BigInteger(), "postgresql")
    now = sa.text("CURRENT_TIMESTAMP")
    moment = sa.TIMESTAMP()
    op.create_table(
        "collections",
        sa.Column("id", number, primary_key=True),
        sa.Column("owner_id", number, sa.ForeignKey("users.id"), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("shared_with_all", sa.Boolean(), nullable=False, server_default=sa.text("0")),
        sa.Column("project_id", number, sa.ForeignKey("projects.id")),
        sa.Column("embedding_model", sa.String()),
        sa.Column("created_at", moment, nullable=False, server_default=now),
        sqlite_autoincrement=True,
    )
    op.create_index("idx_collections_name", "collections", ["owner_id", "name"], unique=True)
    op.create_table(
        "documents",
        sa.Column("id", number, primary_key=True),
        sa.Column("collection_id", number, sa.ForeignKey("collections.id"), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("media_type", sa.String(), nullable=False),
        sa.Column("metadata", sa.Text(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("content_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("size_bytes", sa.Integer(), nullable=False),
        sa.Column("project_id", number),
        sa.Column("created_at", moment, nullable=False, server_default=now),
        sqlite_autoincrement=True,
    )
    op.create_index("idx_documents_content", "documents", ["collection_id", "content_hash"], unique=True)
    op.create_table(
        "chunks",
        sa.Column("id", number, primary_key=True),
        sa.Column("document_id", number, sa.ForeignKey("documents.id"), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("start", sa.Integer(), nullable=False),
        sa.Column("end", sa.Integer(), nullable=False),
        sa.Column("heading", sa.Text(), nullable=False),
        sa.Column("embedding_model", sa.String()),
        sa.Column("dimension", sa.Integer()),
        sqlite_autoincrement=True,
    )
    op.create_index("idx_chunks_document", "chunks", ["document_id", "ordinal"], unique=True)
    op.create_table(
        "embeddings",
        sa.Column("chunk_id", number, sa.ForeignKey("chunks.id"), primary_key=True),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
    )
    op.execute(
        "CREATE VIRTUAL TABLE chunk_words USING fts5("
        "title, heading, body, tokenize = 'porter unicode61 remove_diacritics 2')"
    )
