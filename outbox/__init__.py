"""The transactional outbox: events are appended inside the command's transaction and published by the relay."""
