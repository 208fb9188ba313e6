"""The console: pages for operators. It holds no power of its own, and if it dies nothing else notices."""
