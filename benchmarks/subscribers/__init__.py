"""What subscribers get: how quick the kit decodes."""
