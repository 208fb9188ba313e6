"""The operators who use the console: sessions, links to sign in with, and the pages about both."""
