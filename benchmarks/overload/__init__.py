"""Both APIs under more load than they can serve."""
