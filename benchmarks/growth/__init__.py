"""What grows with the number of users, and with the backlog, and what does not."""
