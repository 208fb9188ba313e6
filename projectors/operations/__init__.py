"""What an operator does with projections: rebuild, parked records, lag."""
