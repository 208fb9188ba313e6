"""The commands that are processes: both APIs, the relay, the projectors."""
