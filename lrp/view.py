"""A door to `audiomnist.explain`, which knows of recordings, pictures and sound.

It is opened when something is first asked of it: `import lrp` is numpy alone.
"""

from audiomnist.explain.viewing import Recording, Sound, WavRecording, draw, play, read, save

__all__ = ["Recording", "Sound", "WavRecording", "draw", "play", "read", "save"]
