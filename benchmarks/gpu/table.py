"""The loops side by side, and what the paper's runs would take."""

import sys

import torch

from benchmarks.gpu.nets import TEST_BATCHES

ITERATIONS = {"AlexNet": 10_000, "AudioNet": 50_000}  # of the paper
RUNS_PER_NETWORK = 9  # five splits of the digits, four of the gender
TEST_INTERVAL = 100


def machine():
    """The machine in words."""
    if not torch.cuda.is_available():
        return f"CPU, torch {torch.__version__}: tiny sizes, the figures below mean nothing"
    properties = torch.cuda.get_device_properties(0)
    return (
        f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB, torch {torch.__version__}, CUDA "
        f"{torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}, Python {sys.version.split()[0]}"
    )


def table(results):
    """The lines of the table."""
    loops = [r for r in results if "loop" in r]
    if not loops:
        return []
    device = next((r["rates"] for r in results if "rates" in r), None)
    needs = {r["network"]: (r["operations"], r["moved"]) for r in loops if "operations" in r}
    lines = [
        f"{'network':9} {'loop':40} {'iterations/s':>12} {'test batches/s':>14} {'peak GB':>8} {'of the floor':>12}"
    ]
    for r in loops:
        share = ""
        if device and r["network"] in needs:
            operations, moved = needs[r["network"]]
            precision = r["loop"].split(": ")[1].split(",")[0]
            best = max(operations / device[precision], moved / device["bandwidth"])
            share = f"{100 * best * r['steps']:.0f} %"
        tests = f"{r['tests']:.1f}" if "tests" in r else ""
        lines.append(
            f"{r['network']:9} {r['loop']:40} {r['steps']:12.1f} {tests:>14} {r['memory'] / 1e9:8.2f} {share:>12}"
            + ("  NOT CAPTURED" if r["failed"] else "")
        )
    return lines + projection(loops)


def projection(loops):
    """Minutes that the paper's runs take at the measured rates (training and test passes; not reading the files)."""
    lines = []
    for precision in ("float32", "TF32"):
        whole = {}
        for name, iterations in ITERATIONS.items():
            for r in loops:
                if r["loop"] == f"engine: {precision}, graph" and r["network"] == name:
                    tests = (iterations / TEST_INTERVAL + 1) * TEST_BATCHES
                    whole[name] = (iterations / r["steps"] + tests / r["tests"]) / 60
                    lines.append(
                        f"projected, {precision}: {name} {iterations} iterations with tests {whole[name]:.2f} min"
                    )
        if whole.keys() == ITERATIONS.keys():
            runs, minutes = RUNS_PER_NETWORK * len(whole), RUNS_PER_NETWORK * sum(whole.values())
            lines.append(f"projected, {precision}: the {runs} runs one after the other {minutes:.1f} min")
    return lines
