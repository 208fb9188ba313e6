"""Receipts of erasures: which subscribers are past each, whether the log has forgotten the person; signed."""
