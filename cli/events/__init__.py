"""`muster events`: the events as any read_committed subscriber sees them: shown, found, described and repeated."""
