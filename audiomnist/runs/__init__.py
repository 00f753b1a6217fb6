"""The paper's networks, and one folder for each training of one: prototxts, snapshots, logs, results."""
