"""Makes net.json: what the original BVLC Caffe 1.0 makes of every net in tests/net_cases.py.

Run it in the original's Python:

    tests/bvlc.sh python3 tests/golden/net/recipe.py tests/golden/net/net.json
"""

import json
import os
import sys
import tempfile

sys.path.append(os.path.abspath(os.path.join(os.path.dirname(__file__), "../../..")))

from tests.golden.child import observed
from tests.net_cases import NETS, construction_log, observe


def run(name, folder):
    """What one case shows, and its "log" (one message a line); only "fatal" where Caffe aborts."""
    _, found, messages = observed(observe, name, folder)
    if found is None:
        return {"fatal": [text for severity, text in messages if severity == "F"][0].split("\n")[0].replace(folder, "")}
    found["log"] = construction_log(messages)
    return found


def main():
    with tempfile.TemporaryDirectory() as folder:
        results = {name: run(name, folder) for name in NETS}
    with open(sys.argv[1], "w") as file:
        json.dump(results, file, sort_keys=True)
        file.write("\n")


if __name__ == "__main__":
    main()
