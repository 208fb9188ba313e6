"""Events as they come, from the event API with the operator's own token."""
