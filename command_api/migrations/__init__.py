"""The command database's history, as Alembic tells it."""
