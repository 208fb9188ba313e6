"""The guide's design: a dependency that yields a session and commits after the answer, an ORM, models in and out."""
