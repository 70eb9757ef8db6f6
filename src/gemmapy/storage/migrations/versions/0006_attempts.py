"""Other models and other attempts: what was asked for, and what was tried on the way to an answer."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("inflight", sa.Column("requested_model", sa.Text()))
    op.add_column("llm_metrics", sa.Column("requested_model", sa.Text()))
    op.add_column("llm_metrics", sa.Column("attempt_log", sa.Text()))
