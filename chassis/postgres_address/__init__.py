"""The parts of an address of PostgreSQL: servers, and TLS."""
