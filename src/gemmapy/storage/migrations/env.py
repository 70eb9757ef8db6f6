"""Alembic's entry: runs the migrations on the connection that `migrate.py` hands over, inside its transaction."""

from alembic import context

from gemmapy.storage.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
context.run_migrations()
