"""PostgreSQL as a child process, from a wheel."""
