"""The least that FastAPI can do."""
