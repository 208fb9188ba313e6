"""How fast the outbox is published, as ratios within one run: to sending the same records from memory."""
