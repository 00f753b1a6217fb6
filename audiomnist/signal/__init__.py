"""From the samples of a recording to what the two networks see and hear."""
