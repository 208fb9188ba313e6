"""The route: what a client asks, and the stream or the page that it gets."""
