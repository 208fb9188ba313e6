"""Reading and emptying the outbox: one relay leads, publishes page by page, and deletes what is published."""
