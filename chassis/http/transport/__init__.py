"""How bytes of clients become requests, on every listener, and what a client may not do."""
