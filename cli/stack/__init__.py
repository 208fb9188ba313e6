"""`muster up` and what belongs to it: the local stack on one machine."""
