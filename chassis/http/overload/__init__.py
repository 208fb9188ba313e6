"""The limits of what a process takes on, and how it refuses what is too much."""
