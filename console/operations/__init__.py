"""What was done here, by whom: every change and every reveal."""
