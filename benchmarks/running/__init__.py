"""How benchmarks run: servers, load, cores, rounds in turns."""
