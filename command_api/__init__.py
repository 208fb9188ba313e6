"""The command API: takes commands over HTTP, changes users, and appends the events that the relay publishes."""
