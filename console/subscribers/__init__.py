"""The readers of events elsewhere: how far each is, and who has not read of an erasure yet."""
