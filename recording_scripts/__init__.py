"""Recording new speakers: prompts, takes, cuts and metadata, from the microphone to a corpus."""
