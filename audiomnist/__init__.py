"""The AudioMNIST study: recordings, the networks' inputs, runs, relevance, experiments, recording new speakers.

`signal` turns samples into the networks' inputs; `corpus` knows folders of recordings, their metadata and splits;
`preprocessing` writes the inputs of a corpus; `runs` trains and tests the paper's networks; `explain` reads, draws and
plays relevance; `study` and `experiments` make the paper's tables and figures; `recording` records new speakers. All of
it stands on `caffe`, `caffe_proto` and `lrp`, which know nothing of sound. `audiomnist --help` lists the commands.
"""

__version__ = "1.0.0"
