"""Passwords: hashing in bounded threads, and the forms of imported hashes."""
