"""The paper's networks as Caffe prototxt templates, the runs made from them, and the table of their results."""
