"""Verifying passwords: beside bare hashes, whatever is wrong with them, and under a flood of guesses."""
