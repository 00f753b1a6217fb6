"""What the faithfulness experiment needs for a whole test set: time and peak memory of one run's recordings.

    ./train_test.sh --demo
    python -m benchmarks.faithfulness AudioNet --recordings 6000

The demo's trained digit run is measured as `audiomnist faithfulness` does it, its test recordings repeated under other
names as often as it takes, and summed up with intervals. AudioMNIST's digit splits test 6,000 recordings, which takes
hours. A batch needs what the one before it needed: with `--once` only the first is computed, and its numbers are those
of every other one, so that the peak is the whole experiment's in the time of one batch. The number of recordings is to
be a multiple of a batch then.
"""

from __future__ import annotations

import argparse
import copy
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from audiomnist.arguments import positive
from audiomnist.experiments import faithfulness
from audiomnist.runs.networks import NETWORKS
from audiomnist.runs.run_folder import list_name
from audiomnist.study.setting import Setting
from audiomnist.study.study import DEMO_FOLDERS
from audiomnist.study.trained import TrainedRun, trained_runs


def repeated(run: TrainedRun, folder: Path, count: int) -> TrainedRun:
    """The run with `count` test recordings: links, in `folder`, to its own in turn."""
    own, names = run.listed(), []
    for number in range(count):
        speaker, _, file = own[number % len(own)].partition("/")
        (folder / speaker).mkdir(exist_ok=True)
        names.append(f"{speaker}/{file.removesuffix('.hdf5')}{number}.hdf5")
        (folder / names[-1]).symlink_to(run.setting.preprocessed / speaker / file)
    (folder / list_name(run.run, "test")).write_text("".join(f"{name}\n" for name in names))
    return TrainedRun(run.folder, run.run, replace(run.setting, preprocessed=folder), run.splits, run.weights)


def measured_once(batch: Callable) -> Callable:
    """The function, whose first result, copied, is every later one's."""
    made = []

    def once(*arguments: object) -> object:
        if not made:
            made.append(batch(*arguments))
        return copy.deepcopy(made[0])

    return once


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faithfulness", description=__doc__.split("\n", 1)[0])
    parser.add_argument("network", choices=NETWORKS)
    parser.add_argument("--recordings", type=positive, default=6000, metavar="N", help="default: %(default)s")
    parser.add_argument("--once", action="store_true", help="measure the first batch, and repeat its numbers")
    parser.add_argument("--runs", type=Path, default=DEMO_FOLDERS["runs"], metavar="DIR")
    parser.add_argument("--preprocessed", type=Path, default=DEMO_FOLDERS["preprocessed"], metavar="DIR")
    options = parser.parse_args(arguments)
    setting = Setting(preprocessed=options.preprocessed.resolve(), runs=options.runs.resolve())
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        run = repeated(trained_runs(setting, options.network, "digit")[0], Path(folder), options.recordings)
        run.setting = replace(run.setting, kept=Path(folder, "kept"))
        if options.once:
            for name in ("measure_batch", "published_batch"):
                setattr(faithfulness, name, measured_once(getattr(faithfulness, name)))
        faithfulness.summary(faithfulness.measure([run], None), setting.seed)
    seconds = time.monotonic() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{run.run}: {options.recordings} recordings in {seconds:.0f} s, peak of {peak:.0f} MB")


if __name__ == "__main__":
    main()
