"""`python -m benchmarks.gpu`; see benchmarks.gpu."""

import argparse
import json
import sys
import time

import torch

import benchmarks.gpu
from benchmarks.gpu import quick, right  # noqa: F401 (they register their sections)
from benchmarks.gpu.processes import end_in_order, run
from benchmarks.gpu.sections import RESULT, SECTIONS, Sizes
from benchmarks.gpu.table import machine, table

ORDER = ("tests", "convolutions", "parity", "rates", "engine", "torch", "parts", "together", "lrp")


def run_section(name, flags, say, log):
    """The results of a section; a failure of one of its processes is a result as well."""
    section, results = SECTIONS[name], []
    end = time.monotonic() + flags.timeout
    # with tiny sizes a process for each part would take longer to start than to run
    for parts in [section.parts] if flags.cpu else [(part,) for part in section.parts]:
        what = f"{name} {', '.join(parts)}".strip()
        log(f"\n=== {what}\n")
        last = ""

        def each(line):
            nonlocal last
            log(line)
            last = line.strip() or last
            if line.startswith(RESULT):
                results.append(json.loads(line[len(RESULT) :]))
                say(results[-1]["line"])

        options = ["--cpu"] if flags.cpu else []
        left = end - time.monotonic()
        reason = f"not begun, since the section's {flags.timeout} s are over"
        if left > 0:
            limit = left if flags.cpu else min(section.limit, left)
            reason = run([sys.executable, "-m", "benchmarks.gpu", *options, "--only", name, *parts], limit, each)
        if reason:
            results.append({"line": f"{what}: {reason} ({last[:200]})", "failed": True})
            say(results[-1]["line"])
    return results


def main():
    parser = argparse.ArgumentParser(
        description=benchmarks.gpu.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cpu", action="store_true", help="on the CPU with tiny sizes: checks the code alone")
    parser.add_argument("--log", default="gpu_benchmark.log", help="the full log (default: %(default)s)")
    parser.add_argument(
        "--section", action="append", choices=ORDER, help="only this section (may be given several times)"
    )
    parser.add_argument("--timeout", type=int, default=570, help="seconds for each section (default: %(default)s)")
    parser.add_argument("--only", nargs="+", help=argparse.SUPPRESS)  # a section's process
    flags = parser.parse_args()
    if not flags.cpu and not torch.cuda.is_available():
        print(
            "benchmarks.gpu: no CUDA device was found; nothing was measured (--cpu runs the code with tiny sizes)",
            file=sys.stderr,
        )
        return 1
    if flags.only:
        name, *parts = flags.only
        for part in parts:
            (quick.one_of if name == "one of" else SECTIONS[name].run)(Sizes(flags.cpu), part)
        return 0
    end_in_order()
    with open(flags.log, "w", encoding="utf-8", buffering=1) as file:

        def say(line):
            print(line, flush=True)
            file.write(line + "\n")

        say(f"machine: {machine()}")
        results = [one for name in flags.section or ORDER for one in run_section(name, flags, say, file.write)]
        for line in table(results):
            say(line)
        failed = sum(r["failed"] for r in results)
        say(f"{failed} failed (see above and {flags.log})" if failed else "nothing failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
