"""The record of deeds here, and whose they were: every change and every reveal."""
