"""Layer types: python."""
