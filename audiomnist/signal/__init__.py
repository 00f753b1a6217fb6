"""From the samples of a recording to the inputs of the two networks."""
