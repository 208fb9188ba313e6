"""How records become rows: decoded, deduplicated by checkpoints, dispatched to a projection, parked where they fail."""
