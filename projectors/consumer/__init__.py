"""Makes rows of records: fetched, deduplicated by checkpoints, handed to a projection, parked where they fail."""
