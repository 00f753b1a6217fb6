"""Layer types: vision."""
