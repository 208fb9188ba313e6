"""The projections: one module each, from a batch of events to rows."""
