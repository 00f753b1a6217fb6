"""What a run needs before it can be trained: the demo's recordings, and the networks' inputs with their lists."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from audiomnist.corpus.layout import CorpusError
from audiomnist.corpus.metadata import META_NAME
from audiomnist.runs.run_folder import RunError, RunName, are_listed
from audiomnist.signal.wav import RecordingError
from audiomnist.workers import available_cores
from caffe_proto import WriteError

DEMO_REPETITIONS = 6  # recordings of each digit by each of the demo's speakers


def has_recordings(data: Path) -> bool:
    """Is there a WAV file of any speaker?"""
    return next(data.glob("*/*.wav"), None) is not None


def make_demo_corpus(data: Path) -> None:
    """Make the demo's recordings where they are missing, or some of them. Raises RunError."""
    from audiomnist.corpus import demo_corpus

    with contextlib.redirect_stdout(sys.stderr):
        try:
            made = demo_corpus.make_corpus(data, DEMO_REPETITIONS, demo_corpus.SPEAKERS, 0, available_cores())
            print(f"{made} recordings of {demo_corpus.SPEAKERS} synthetic speakers in {data}")
        except (CorpusError, WriteError, RecordingError) as error:
            raise RunError.at("demo corpus", error) from None


def prepare_inputs(
    runs: Sequence[RunName], data: Path, preprocessed: Path, seed: int, skip_invalid: bool = False
) -> None:
    """Validate and preprocess the recordings where lists of the runs are missing. Raises RunError.

    A corpus with errors is refused, unless `skip_invalid` leaves its defective recordings out.
    """
    if all(are_listed(run, preprocessed) for run in runs):
        return
    from audiomnist.corpus import validate
    from audiomnist.preprocessing.command import preprocess

    if not has_recordings(data):
        raise RunError(preprocessed, "lists of the selected runs, or recordings to make them from", "neither")
    advice = "--skip-invalid leaves defective recordings out"
    with contextlib.redirect_stdout(sys.stderr):
        try:
            errors = validate.report(data, jobs=available_cores())
            if errors and not skip_invalid:
                raise RunError(data, "recordings without errors", f"{errors} errors (listed above; {advice})")
            status = preprocess(
                data, preprocessed, data / META_NAME, jobs=available_cores(), seed=seed, skip_invalid=skip_invalid
            )
        except (CorpusError, WriteError) as error:
            raise RunError.at("preprocessing", error) from None
        except BrokenProcessPool:
            raise RunError("preprocessing", "workers that live", "a dead one (more memory may help)") from None
    if status:
        raise RunError("preprocessing", "lists of every part", f"defects (listed above; {advice})")
