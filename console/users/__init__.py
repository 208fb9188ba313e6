"""Users through the two APIs, with the operator's own token: find, read, change."""
