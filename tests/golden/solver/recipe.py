"""Makes solver.json: trajectories, files and log lines of every training run in tests/solver_cases.py.

Run it in the original's Python:

    tests/bvlc.sh python3 tests/golden/solver/recipe.py tests/golden/solver/solver.json
"""

import json
import os
import sys
import tempfile
import traceback

sys.path.append(os.path.abspath(os.path.join(os.path.dirname(__file__), "../../..")))

from tests.net_cases import log_messages
from tests.solver_cases import SOLVERS, observe


def run(name, folder):
    """What one case shows and its log from `Solving` on, one message a line; each in a process of its own."""
    result, log = os.path.join(folder, "result.json"), os.path.join(folder, "log")
    child = os.fork()
    if child == 0:
        os.dup2(os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC), 2)
        try:
            os.mkdir(os.path.join(folder, "run"))
            found = observe(name, os.path.join(folder, "run"))
            with open(result, "w") as file:
                json.dump(found, file)
        except Exception:
            traceback.print_exc()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    with open(log) as file:
        messages = [text for _, text in log_messages(file.read())]
    if not os.path.exists(result):
        raise SystemExit(f"{name}: the case itself failed: {messages[-1][-500:]}")
    with open(result) as file:
        found = json.load(file)
    found["log"] = messages[messages.index("Solving small"):]
    return found


def rounded(value):
    """Nested lists with their floats cut to the 9 digits that tell float32 numbers apart."""
    if isinstance(value, float):
        return float(f"{value:.9g}")
    if isinstance(value, list):
        return [rounded(v) for v in value]
    return {k: rounded(v) for k, v in value.items()} if isinstance(value, dict) else value


def main():
    results = {}
    for name in SOLVERS:
        with tempfile.TemporaryDirectory() as folder:
            results[name] = rounded(run(name, folder))
    with open(sys.argv[1], "w") as file:
        json.dump(results, file, sort_keys=True)
        file.write("\n")


if __name__ == "__main__":
    main()
