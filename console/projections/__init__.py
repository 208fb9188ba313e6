"""Generations of read tables: what serves, what is built, and how far each is."""
