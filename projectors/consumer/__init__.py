"""How records become rows: fetched, deduplicated by checkpoints, handed to a projection, parked where they fail."""
