"""The error that every unreadable, unwritable or invalid Caffe file raises."""


class CaffeFileError(RuntimeError):
    """A prototxt, caffemodel, solverstate or binaryproto file is missing, broken or not what was asked for.

    The message is one sentence: which file and place, what was found, what was wanted. It derives from RuntimeError
    because that is what pycaffe raises for a file that it cannot open.
    """
