"""The events of users, as a client is told them."""
