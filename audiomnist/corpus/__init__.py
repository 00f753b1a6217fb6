"""Folders of recordings: names, metadata, splits, what is wrong with them, and where new ones come from."""
