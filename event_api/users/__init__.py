"""What a client is told of a user's event."""
