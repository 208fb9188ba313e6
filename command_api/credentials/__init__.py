"""Credentials: passwords that somebody logs in with, guesses slowed down, one-time tokens."""
