"""Attempts: the rule of how many there may be, their counters in the database, and who waits for whom."""
