"""Idempotency-Key: reading it, storing an answer under it, replaying the answer, and deleting it after a day."""
