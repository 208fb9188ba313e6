"""The roles of PostgreSQL: who may do what in which database, and the command that makes them."""
