"""The projections: one module each, from a batch of changes to rows."""
