"""caffe_proto.errors: every error that a worker process may raise arrives as it was raised."""

import importlib
import pickle
import pkgutil
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

import audiomnist
import caffe
import caffe_proto
import lrp
from audiomnist.corpus.layout import CorpusError
from audiomnist.runs.run_folder import RunError, SelectionError
from audiomnist.runs.train_test import Misuse
from audiomnist.signal.wav import RecordingError
from caffe_proto import CaffeFileError, UserError, WriteError
from caffe_proto.atomic import write_error
from lrp.errors import LRPError, NotFiniteError

ERRORS = [
    *(kind("place", "an apple", "a pear") for kind in (UserError, CaffeFileError, LRPError, CorpusError, RunError)),
    SelectionError("task", "digit", "colour"),
    Misuse("--jobs", "a number", "many"),
    UserError("one sentence"),
    RecordingError("mono", "3 channels that differ"),
    NotFiniteError(2, "scores", "finite numbers of a.prototxt", "1 of 3 that are NaN or infinite"),
    write_error("a/b", OSError(28, "No space left on device")),
    WriteError("a/b", "a clock that runs", "one that stands"),
]


def fail(error):
    raise error


def facts(error):
    return type(error), str(error), vars(error), error.args, getattr(error, "strerror", None)


@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_an_error_survives_pickling(error):
    assert facts(pickle.loads(pickle.dumps(error))) == facts(error)


def test_an_error_arrives_from_a_worker_process():
    """An exception that cannot be unpickled would break the pool: a dead worker would be reported in its place."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        for error in ERRORS:
            with pytest.raises(type(error)) as caught:
                pool.submit(fail, error).result(timeout=120)
            assert facts(caught.value) == facts(error)


def test_every_error_with_arguments_of_its_own_is_tried():
    packages = (audiomnist, caffe, caffe_proto, lrp)
    for package in packages:
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)

    def kinds(base):
        return {base}.union(*(kinds(kind) for kind in base.__subclasses__()))

    names = {package.__name__ for package in packages}
    ours = {kind for kind in kinds(UserError) if kind.__module__.partition(".")[0] in names}
    assert {kind for kind in ours if "__init__" in vars(kind)} <= {type(error) for error in ERRORS}
