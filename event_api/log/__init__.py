"""The topic as it is read: positions on it, its newest records, older ones, and each client's way through them."""
