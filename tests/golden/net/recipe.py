"""Makes net.json: what the original BVLC Caffe 1.0 makes of every net in tests/net_cases.py.

Run it in the original's Python:

    tests/bvlc.sh python3 tests/golden/net/recipe.py tests/golden/net/net.json

Every case runs in a process of its own, because Caffe aborts on a net that it refuses.
"""

import json
import os
import sys
import tempfile
import traceback

sys.path.append(os.path.abspath(os.path.join(os.path.dirname(__file__), "../../..")))

from tests.net_cases import NETS, construction_log, log_messages, observe


def run(name, folder):
    """What one case shows, and its "log" (one message a line); only "fatal" where Caffe aborts."""
    result, log = os.path.join(folder, "result.json"), os.path.join(folder, "log")
    child = os.fork()
    if child == 0:
        os.dup2(os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC), 2)
        try:
            found = observe(name, folder)
            with open(result, "w") as file:
                json.dump(found, file)
        except Exception:
            traceback.print_exc()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    with open(log) as file:
        messages = log_messages(file.read())
    if os.WIFSIGNALED(status):
        return {"fatal": [text for severity, text in messages if severity == "F"][0].split("\n")[0].replace(folder, "")}
    if not os.path.exists(result):
        raise SystemExit(f"{name}: the case itself failed: {messages[-1][1][-500:]}")
    with open(result) as file:
        found = json.load(file)
    os.unlink(result)
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
