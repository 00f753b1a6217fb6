"""Relevance of recordings: reading inputs, pictures, sounds, reports, and the command `lrp`."""
