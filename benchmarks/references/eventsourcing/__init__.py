"""The library `eventsourcing` with PostgreSQL, as its documentation of projections shows."""
