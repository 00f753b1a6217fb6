"""Whole outcomes of every experiment, on networks that are written by hand, beside those that were read once.

Other tests hold single numbers against independent computations. This one notices what else changes: an order, a
column, a sentence, a unit, a number that nobody asserts. Texts and tables are in golden/outcomes/<experiment>.json;
numbers in them may differ in the third digit. After a change that is meant, make them again and read the difference:

    OUTCOMES=write tests/run.sh tests/audiomnist/experiments/test_outcomes.py
"""

import json
import math
import os
import re
from pathlib import Path

import numpy as np
import pytest

from audiomnist.study.catalogue import catalogue
from audiomnist.study.setting import Setting
from tests.hand_network import write_run

GOLDEN = Path(__file__).resolve().parents[2] / "golden/outcomes"
# but for what is about logs alone, and what needs layers to randomise: test_training_curves.py, test_sanity.py
EXPERIMENTS = sorted(set(catalogue()) - {"training_curves", "sanity"})
SHAPES = {"AlexNet": (227, 227), "AudioNet": (8000,)}
CLASSES = {"digit": 10, "gender": 2}
NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e[+-]?\d+)?(?![\w])")
UNSTABLE = {"weights_sha256", "weights_file"}  # columns


@pytest.fixture(scope="module")
def setting(small_study, tmp_path_factory):
    """Of runs whose weights are waves along time and frequency, so that neighbours agree."""
    runs = tmp_path_factory.mktemp("hand") / "runs"
    for network, shape in SHAPES.items():
        for task, classes in CLASSES.items():
            at = np.indices(shape) / np.array(shape).reshape(-1, *[1] * len(shape))
            waves = [
                sum(np.cos(2 * np.pi * (3 + k) * (axis + 1) * x) for axis, x in enumerate(at)) for k in range(classes)
            ]
            weights = np.reshape(waves, (classes, -1)) / np.sqrt(np.prod(shape))
            run = write_run(small_study, runs, f"{network}_{task}_0", weights, np.zeros(classes))
            log = run / "test.log"  # of a training, whose result may be another on another machine
            log.write_text(re.sub(r"(accuracy|loss) = [\d.]+", r"\1 = 0.625", log.read_text()))
    return Setting(small_study / "data", small_study / "preprocessed", runs, limit=6, composites=("epsilon_plus",))


def plain(value):
    """A cell as JSON has it; numbers to six digits."""
    if isinstance(value, (bool, np.bool_)) or value is None:
        return value if value is None else bool(value)
    if isinstance(value, (int, float, np.number)):
        return float(f"{float(value):.6g}") if math.isfinite(value) else None
    return str(value)


def described(outcome):
    """Everything that an outcome says, and of its tables columns, size, the first and the last row, and means."""
    tables = {}
    for name, frame in outcome.tables.items():
        frame = frame.drop(columns=UNSTABLE & set(frame))
        numbers = frame.select_dtypes("number")
        tables[name] = {
            "columns": list(frame),
            "rows": len(frame),
            "first": [plain(value) for value in frame.iloc[0]],
            "last": [plain(value) for value in frame.iloc[-1]],
            "means": {column: plain(numbers[column].mean()) for column in numbers},
            "index": frame.index.is_unique,
        }
    return {
        "findings": outcome.findings,
        "conclusions": [one.record() | {"verdict": one.verdict()} for one in outcome.conclusions],
        "figures": {name: caption for name, (_, caption) in outcome.figures.items()},
        "sounds": {name: caption for name, (_, caption) in outcome.sounds.items()},
        "arrays": sorted(outcome.arrays),
        "unverified": outcome.unverified,
        "tables": tables,
    }


def differences(found, wanted, place=""):
    """The places where two descriptions differ; numbers, in texts too, by more than the third digit."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        if list(found) != list(wanted):
            return [f"{place}: {list(found)} for {list(wanted)}"]
        return [line for key in wanted for line in differences(found[key], wanted[key], f"{place}/{key}")]
    if isinstance(wanted, list) and isinstance(found, list) and len(found) == len(wanted):
        pairs = enumerate(zip(found, wanted, strict=True))
        return [line for k, (one, other) in pairs for line in differences(one, other, f"{place}/{k}")]
    if isinstance(wanted, str) and isinstance(found, str):
        if NUMBER.sub("#", found) == NUMBER.sub("#", wanted):
            pairs = zip(NUMBER.findall(found), NUMBER.findall(wanted), strict=True)
            return [f"{place}: {a} for {b} in {wanted!r}" for a, b in pairs if not close(a, b)]
    elif isinstance(wanted, (int, float)) and isinstance(found, (int, float)):
        return [] if close(found, wanted) else [f"{place}: {found} for {wanted}"]
    return [] if found == wanted else [f"{place}: {found!r} for {wanted!r}"]


def close(found, wanted):
    """Equal but for the third digit, or the last one that is printed."""
    printed = 10.0 ** -len(str(wanted).partition(".")[2]) if isinstance(wanted, str) and "." in wanted else 1e-6
    return math.isclose(float(found), float(wanted), rel_tol=5e-3, abs_tol=1.01 * printed)


def test_differences_are_seen():
    wanted = {"a": [1.0, "x 2.50 [1.00, 3.00] of 12"], "b": None}
    assert differences({"a": [1.001, "x 2.51 [1.00, 3.00] of 12"], "b": None}, wanted) == []
    for changed in (
        {"a": [1.01, "x 2.50 [1.00, 3.00] of 12"], "b": None}, {"a": [1.0, "x 2.50 [1.00, 3.00] of 13"], "b": None},
        {"a": [1.0, "y 2.50 [1.00, 3.00] of 12"], "b": None}, {"b": None, "a": wanted["a"]}, {"a": [1.0], "b": None},
        {"a": wanted["a"], "b": 0.0}, {"a": wanted["a"]},
    ):  # fmt: skip
        assert differences(changed, wanted) != []


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_outcome_is_what_it_was_when_it_was_read(setting, name):
    found, path = json.loads(json.dumps(described(catalogue()[name].make(setting)))), GOLDEN / f"{name}.json"
    if os.environ.get("OUTCOMES") == "write":
        GOLDEN.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    assert differences(found, json.loads(path.read_text(encoding="utf-8"))) == []
