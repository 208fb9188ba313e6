"""`muster import`: users by the million through the command API, chunk by chunk."""
