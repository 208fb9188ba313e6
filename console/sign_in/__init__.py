"""Who uses the console: sessions, links to sign in with, and the pages about both."""
