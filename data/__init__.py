"""Corpora of spoken digits: what one is, how it is fetched, made, checked and tabulated."""
