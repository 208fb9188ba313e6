"""What Muster is measured against, each rebuilt by us to be fair and pinned in the group `bench` of pyproject.toml."""
