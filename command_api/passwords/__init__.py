"""Passwords: which may be chosen, hashing in bounded threads, and the forms of imported hashes."""
