"""The same SQL without Muster around it: by pgbench, and by asyncpg in a loop."""
