"""The query API: serves what projectors have written, page by page, and never silently stale."""
