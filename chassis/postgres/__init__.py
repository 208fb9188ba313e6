"""PostgreSQL as every process reaches it: a pool, deadlines, statements, migrations."""
