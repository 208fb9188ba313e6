"""Small programs that use Muster, each run by a test."""
