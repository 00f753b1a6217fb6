"""What experiments share, the whole study as one command, and its page of results."""
