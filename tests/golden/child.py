"""Runs one case of a recipe in a process of its own, because the original Caffe aborts on what it refuses."""

import json
import os
import traceback

from tests.net_cases import log_messages


def observed(observe, name, folder):
    """(exit status as waitpid gives it, what observe(name, folder) returned or None, [(severity, message)] of its log).

    Raises SystemExit with the log's end where the case itself failed, rather than Caffe.
    """
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
        return status, None, messages
    if not os.path.exists(result):
        raise SystemExit(f"{name}: the case itself failed: {messages[-1][1][-500:]}")
    with open(result) as file:
        found = json.load(file)
    os.unlink(result)
    return status, found, messages
