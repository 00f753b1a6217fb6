"""Recording speakers of spoken digits: prompts, sound, sessions on disk, cutting, and what the networks answer."""
