"""Worker processes start from a server that has loaded what they need; CPython ignores names that are gone."""

import os
import subprocess
import sys
from concurrent.futures.process import BrokenProcessPool

import pytest
from small_corpus import make_corpus

from audiomnist import workers
from audiomnist.corpus import demo_corpus, validate
from audiomnist.preprocessing import command

COMMANDS = {
    "validate": lambda corpus, out: validate.validate(corpus, jobs=2),
    "preprocess": lambda corpus, out: command.preprocess(corpus, out, corpus / "audioMNIST_meta.txt", jobs=2),
    "demo-corpus": lambda corpus, out: demo_corpus.make_corpus(out, repetitions=1, count=6, seed=0, jobs=2),
}
LOAD = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
print(*sys.modules)
"""


@pytest.mark.parametrize("name", COMMANDS)
def test_the_server_of_worker_processes_loads_what_they_resample_with(name, tmp_path, monkeypatch):
    asked = []

    class Asked(Exception):
        pass

    def context(*preload):
        asked.extend(preload)
        raise Asked

    monkeypatch.setattr(workers, "context", context)
    with pytest.raises(Asked):
        COMMANDS[name](make_corpus(tmp_path / "in"), tmp_path / "out")
    done = subprocess.run([sys.executable, "-c", LOAD, *asked], capture_output=True, text=True, check=True)
    assert {"scipy.signal", "audiomnist.signal.inputs"} <= set(done.stdout.split())


@pytest.mark.parametrize("how", [EOFError, ConnectionResetError])
def test_a_dead_server_of_workers_is_a_dead_process(how, monkeypatch):
    """Workers are started by a process of their own, which can be killed as they can."""

    def dead(*_):
        raise how

    monkeypatch.setattr(workers.ProcessPoolExecutor, "submit", dead)
    for share_out in (workers.spread, workers.apart):
        with pytest.raises(BrokenProcessPool):
            list(share_out(abs, [-1, -2], 2))


def test_each_item_in_a_process_of_its_own():
    found = list(workers.apart(eval, ["__import__('os').getpid()"] * 3, 2))
    assert len(set(found)) == 3 and os.getpid() not in found


@pytest.mark.parametrize("share_out", [workers.spread, workers.apart])
def test_a_worker_that_dies_is_said_and_not_waited_for(share_out):
    with pytest.raises(BrokenProcessPool):
        list(share_out(os._exit, [3, 3, 3], 2))
