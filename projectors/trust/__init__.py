"""Whether a record is ours: what a generation knows of its subject, what compaction explains, who was repaired."""
