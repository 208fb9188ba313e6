"""The forms of password hashes that are accepted, a module for each family: how one is read, bounded and checked."""
