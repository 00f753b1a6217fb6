"""tests/run.sh as one calls it: what it says and its exit status where the tests do not end."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
@pytest.mark.parametrize("seconds, red", [(600, True), (0, False)])
def test_tests_that_do_not_end_are_red(tmp_path, seconds, red):
    (tmp_path / "test_sleep.py").write_text(f"import time\n\n\ndef test_sleep():\n    time.sleep({seconds})\n")
    environment = os.environ | {"VIRTUAL_ENV": sys.prefix, "TESTS_LIMIT": "8" if red else "100"}
    environment.pop("PYTEST_ADDOPTS", None)
    done = subprocess.run(
        [ROOT / "tests/run.sh", "-n", "0", "-p", "no:cacheprovider", tmp_path / "test_sleep.py"],
        env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    said = "tests/run.sh: the tests did not end within 8 s: STOPPED, and red"
    assert (said in done.stderr, "1 passed" in done.stdout) == (red, not red), done.stderr
    assert done.returncode == 1 or not red
