"""The pytest plugin of benchmarks/mutation.py: records which functions each test calls, or runs the tests of a list.

MUTATION_RECORD=FILE  write {test: {"seconds": s, "calls": ["file:line", ...]}}; what a fixture calls counts for every
                      test that uses it. What other processes do is not seen; a test that starts one calls "a process".
MUTATION_TESTS=FILE   run the tests that this JSON list names, in its order.
MUTATION_STUDY=DIR    the fixture small_study is this folder, which is made where it is missing.
"""

import json
import os
import sys
import threading
import time
from pathlib import Path

import pytest

ROOT = f"{Path(__file__).resolve().parents[1]}{os.sep}"
RECORD, TESTS = os.environ.get("MUTATION_RECORD"), os.environ.get("MUTATION_TESTS")
STUDY = os.environ.get("MUTATION_STUDY")
STARTED = "a process"
STARTS = {("subprocess.py", "_execute_child"), ("process.py", "start")}
by_fixture: dict[str, set] = {}
by_test: dict[str, dict] = {}
places: dict = {}  # code object -> "file:line", or None outside the project
current: set = set()


def note(frame, event, argument):
    """A trace function of calls alone (it returns None, so that lines are not traced)."""
    code = frame.f_code
    if code not in places:
        name = code.co_filename
        inside = name.startswith(ROOT) and not name.startswith((f"{ROOT}tests", f"{ROOT}benchmarks"))
        place = STARTED if (Path(name).name, code.co_name) in STARTS else None
        places[code] = f"{name[len(ROOT) :]}:{code.co_firstlineno}" if inside else place
    current.add(places[code])


def pytest_collection_modifyitems(items):
    if TESTS:
        order = {name: number for number, name in enumerate(json.loads(Path(TESTS).read_text()))}
        items[:] = sorted((item for item in items if item.nodeid in order), key=lambda item: order[item.nodeid])


def calls_of(work):
    """Give `work` the set of places that are called during the yield of this generator."""
    global current
    before, current = current, set()
    try:
        return (yield)
    finally:
        work(current - {None})
        current = before


if STUDY:

    @pytest.hookimpl(tryfirst=True)
    def pytest_fixture_setup(fixturedef, request):
        if fixturedef.argname == "small_study":
            if not os.path.exists(STUDY):
                from tests.small_study import make_study

                make_study(Path(STUDY))
            fixturedef.cached_result = Path(STUDY), fixturedef.cache_key(request), None
            return Path(STUDY)
        return None


if RECORD:

    def pytest_sessionstart():
        threading.settrace(note)
        sys.settrace(note)

    @pytest.hookimpl(wrapper=True, specname="pytest_fixture_setup")
    def record_of_fixture(fixturedef, request):
        return (yield from calls_of(by_fixture.setdefault(fixturedef.argname, set()).update))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(item):
        begun = time.monotonic()
        test = by_test[item.nodeid] = {"calls": set(), "fixtures": list(item.fixturenames)}
        result = yield from calls_of(test["calls"].update)
        test["seconds"] = time.monotonic() - begun
        return result

    def pytest_sessionfinish():
        sys.settrace(None)
        threading.settrace(None)
        for test in by_test.values():
            for name in test.pop("fixtures"):
                test["calls"] |= by_fixture.get(name, set())
            test["calls"] = sorted(test["calls"])
        Path(RECORD).write_text(json.dumps(by_test))
