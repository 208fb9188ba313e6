"""The query API: serves what projectors have written, page by page, never silently stale."""
