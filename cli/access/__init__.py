"""The callers' side of access: tokens, a local issuer, and the token that a command of ours sends."""
