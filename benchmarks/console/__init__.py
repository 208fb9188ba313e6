"""The console: what it costs while nobody looks and while fifty do, and how quick it finds a user."""
