"""A reset of a password by a one-time token, from the issue to the topic."""
