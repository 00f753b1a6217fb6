"""Layer types: neuron."""
