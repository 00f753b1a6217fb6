"""The engine on a GPU: is it right, how quick is it, how far from the best.

    python -m benchmarks.gpu [--log FILE] [--section NAME ...]      on the GPU box
    python -m benchmarks.gpu --cpu                                  the same code on the CPU with tiny sizes, no figures

Sections:

    tests         the tests with the `cuda` marker
    convolutions  every convolution of both networks, batch 100: values and gradients in every precision and memory
                  format against float64 on the same device, with milliseconds
    parity        CPU against CUDA: both networks layer by layer from the CPU's numbers, in float32 and TF32; whole
                  passes and five solver steps in float32, plain and replayed
    rates         what the device can do: matrix products, memory
    engine        iterations a second of this engine: plain and replayed, float32 and TF32, batches of 100 of a data set
                  that is made on the device, as large as AudioMNIST; test passes; peak memory
    torch         the same of a hand-written PyTorch loop: eager, compiled, and as a CUDA graph; also with bf16, which
                  the engine lacks
    parts         what could be done otherwise: pooling as a maximum of views, conv1 of AudioNet
    together      iterations a second of one and of two runs at once
    lrp           recordings explained a second

A section is several processes, one after another, so that one that fails costs only its own line and leaves no memory
behind. A process that is late is killed with all that it started, and so is a section after --timeout seconds. Results
are printed and logged as they come, the table of the loops last; the log has every line of every process. "floor" is
the larger of operations over the measured matrix rate and bytes over the measured bandwidth, where each top and each
gradient is written once, and read once forward and once or twice backward (see benchmarks.gpu.nets.work).
"""
