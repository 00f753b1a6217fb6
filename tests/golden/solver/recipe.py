"""Makes solver.json: trajectories, files and log lines of every training run in tests/solver_cases.py.

Run it in the original's Python:

    tests/bvlc.sh python3 tests/golden/solver/recipe.py tests/golden/solver/solver.json
"""

import json
import os
import sys
import tempfile

sys.path.append(os.path.abspath(os.path.join(os.path.dirname(__file__), "../../..")))

from tests.golden.child import observed
from tests.solver_cases import SOLVERS, observe


def run(name, folder):
    """What one case shows and its log from `Solving` on, one message a line."""
    _, found, messages = observed(observe, name, folder)
    if found is None:
        raise SystemExit(f"{name}: the original refuses it: {messages[-1][1][-500:]}")
    texts = [text for _, text in messages]
    found["log"] = texts[texts.index("Solving small") :]
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
