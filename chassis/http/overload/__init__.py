"""What a process takes on, and how it refuses what is too much."""
