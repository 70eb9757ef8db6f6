"""Documents come and go in small steps: at which stage each is."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("documents", sa.Column("stage", sa.String(), nullable=False, server_default=sa.text("'here'")))
    op.create_index("idx_documents_unfinished", "documents", ["stage"], sqlite_where=sa.text("stage != 'here'"))
