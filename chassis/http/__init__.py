"""What both HTTP APIs, and the health ports of the other processes, are made of."""
