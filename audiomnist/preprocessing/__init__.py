"""Every recording of a corpus as HDF5 inputs of the two networks, and the lists of each split."""
