"""Idempotency-Key: stored answers, and their replay."""
