"""How long it takes from `make up` to "ready": the first time on a machine, and every time after that."""
