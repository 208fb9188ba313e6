"""What an address of PostgreSQL is made of: servers, and TLS."""
