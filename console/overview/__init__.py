"""Tells whether all is well: one poll for all who look, what it found in words and figures, and its page."""
