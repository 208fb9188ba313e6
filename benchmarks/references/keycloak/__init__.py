"""Keycloak, from Maven's repository: an issuer for a test, and a rival with users of its own."""
