"""The parts that both HTTP APIs, and the health ports of the other processes, are built from."""
