"""Accuracies and experiments on real recordings, kept in one file, and the tables made of it.

    python -m benchmarks.results record az --title "..." --data D --preprocessed P --runs R [R ...] [--results O]
    python -m benchmarks.results write [--check]

`record` adds tested runs (each answers its test recordings again) and the tables of a results folder to
benchmarks/results.json, under the corpus's name. A run is known by its engine, solver, seed, name and iterations, so
that the record can grow in parts; an experiment's tables replace the earlier ones. No recording and no path is kept.
`write` puts the tables between their marks in the documents (`<!-- table: az accuracy -->` to `<!-- end of table -->`);
`--check` only says which would change.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import ttest_ind

from audiomnist.corpus.layout import scan
from audiomnist.corpus.metadata import META_NAME, read_metadata
from audiomnist.experiments.training_curves import VALIDATION_ACCURACY, read_curves
from audiomnist.runs.engine import OWN
from audiomnist.runs.networks import NETWORKS
from audiomnist.runs.run_folder import run_record
from audiomnist.runs.summary import collect, mean_and_deviation, percent
from audiomnist.study.outcome import RECORD as OUTCOME
from audiomnist.study.setting import Setting
from audiomnist.study.statistics import Estimate, estimate
from audiomnist.study.trained import TrainedRun, trained_runs
from audiomnist.workers import available_cores
from caffe_proto import read_solver, write_file

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks/results.json"
DOCUMENTS = ("README.md", "docs/results.md")
KEPT = {  # experiment -> those of its tables that go into the record
    "table1": ("conclusions",),
    "gender_hypothesis": ("estimates",),
    "pitch_or_formants": ("shares", "flips", "turning_points"),
    "faithfulness": ("scores",),
    "sanity": ("verdicts",),
}
ENGINES = {OWN: "ours", "tests/bvlc.sh caffe": "BVLC Caffe 1.0"}  # as run.json has them, and as tables do
OURS, BVLC = ENGINES.values()
DIGITS = 5  # significant, of numbers in the record


# --- the record ------------------------------------------------------------------------------------------------------


def machine() -> dict[str, object]:
    """What computed: processor, cores that may be used, and the versions that decide bits."""
    import torch

    with open("/proc/cpuinfo", encoding="utf-8") as file:
        models = re.findall(r"^model name\s*:\s*(.*)$", file.read(), re.MULTILINE)
    return {
        "processor": models[0] if models else platform.machine(),
        "cores": available_cores(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
    }


def describe(data: Path) -> dict[str, int]:
    """How many recordings and speakers of each gender there are."""
    recordings, _ = scan(data)
    metadata = read_metadata(data / META_NAME)
    speakers = {recording.speaker for recording in recordings}
    genders = [str(metadata.get(speaker, {}).get("gender", "unknown")) for speaker in speakers]
    counts = {f"{gender} speakers": genders.count(gender) for gender in sorted(set(genders))}
    return {"recordings": len(recordings), "speakers": len(speakers), **counts}


def solver_of(run: TrainedRun) -> str:
    """ "quick" or "paper": whose solver trained the run, by the type that its solver.prototxt names."""
    return "paper" if read_solver(run.folder / "solver.prototxt").type == "SGD" else "quick"


def record_run(run: TrainedRun, accuracy: float, loss: float) -> dict[str, object]:
    """One run: logged accuracy (0 to 1) and loss, right answers and recordings of each speaker, validation curve."""
    answers = run.answers()
    right = answers.groupby("speaker", sort=True)["right"].agg(["sum", "size"])
    curve = read_curves(run.folder / "train.log")
    curve = curve[curve["quantity"] == VALIDATION_ACCURACY]
    made = run_record(run.folder)
    return {
        "run": str(run.run),
        "network": run.run.network,
        "task": run.run.task,
        "split": run.run.split,
        "engine": ENGINES.get(run.engine, run.engine),
        "solver": solver_of(run),
        "seed": run.seed,
        "iterations": run.iterations,
        "accuracy": accuracy,
        "loss": loss,
        "speakers": {speaker: [int(row["sum"]), int(row["size"])] for speaker, row in right.iterrows()},
        "validation": [[int(row.iteration), float(f"{row.value:.4g}")] for row in curve.itertuples()],
        "weights_sha256": run.weights_sha256[:16],
        "made_by": made["made_by"],
    }


def key(run: dict) -> tuple:
    """What a run is known by, in the order of the record."""
    networks = list(NETWORKS)
    return (
        list(ENGINES.values()).index(run["engine"]) if run["engine"] in ENGINES.values() else len(ENGINES),
        run["solver"], networks.index(run["network"]), run["task"], run["split"], run["seed"], run["iterations"],
    )  # fmt: skip


def _short(value: object) -> object:
    """A cell as JSON has it: `DIGITS` significant digits, null for what is no finite number."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    return value


def record_experiments(results: Path) -> dict[str, dict]:
    """{experiment: what made it, its setting and the tables of `KEPT`} of a results folder."""
    found = {}
    for name, stems in KEPT.items():
        path = results / name / OUTCOME
        if not path.exists():
            continue
        record = json.loads(path.read_text(encoding="utf-8"))
        tables = {}
        for stem in stems:
            frame = pd.read_csv(results / name / f"{stem}.csv")
            tables[stem] = [
                {column: _short(value) for column, value in row.items()} for row in frame.to_dict(orient="records")
            ]
        setting = {name: record["setting"][name] for name in ("limit", "seed", "composites", "engine")}
        found[name] = {"made_by": record["made_by"], "setting": setting, "tables": tables}
    return found


def load() -> dict[str, dict]:
    return json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}


def record(options: argparse.Namespace) -> None:
    """Add runs and experiments to the record."""
    everything, today = load(), {"machine": machine(), "date": date.today().isoformat()}
    own = everything.setdefault(options.name, {"title": "", "runs": [], "experiments": {}})
    own["title"] = options.title or own["title"]
    own |= {"recordings": describe(options.data)}
    runs = {key(run): run for run in own["runs"]}
    for folder in options.runs:
        setting = Setting(options.data.resolve(), options.preprocessed.resolve(), folder.resolve())
        scores = {result.run: result for result in collect(folder)}
        for run in trained_runs(setting):
            if result := scores.get(str(run.run)):
                one = record_run(run, result.accuracy, result.loss) | today
                runs[key(one)] = one
    own["runs"] = [runs[known] for known in sorted(runs)]
    if options.results:
        own["experiments"] |= record_experiments(options.results)
    write_file(RESULTS, json.dumps(everything, indent=1, ensure_ascii=False) + "\n")


# --- the tables ------------------------------------------------------------------------------------------------------


def markdown(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def interval(mean: float, low: float | None, high: float | None, digits: int = 1) -> str:
    """A mean with its interval: 91.6 [88.0, 94.4]."""
    ends = "" if low is None or math.isnan(low) else f" [{low:.{digits}f}, {high:.{digits}f}]"
    return f"{mean:.{digits}f}{ends}"


def answers(runs: Sequence[dict]) -> pd.DataFrame:
    """Columns split, speaker, recording, right: a row for each test recording of the runs, by its number."""
    rows = [
        (run["split"], speaker, number, number < right)
        for run in runs
        for speaker, (right, count) in run["speakers"].items()
        for number in range(count)
    ]
    return pd.DataFrame(rows, columns=["split", "speaker", "recording", "right"])


def groups(runs: Sequence[dict], *names: str) -> Iterator[tuple[tuple, list[dict]]]:
    """(values of `names`, the runs that have them), in the runs' order."""
    found: dict[tuple, list[dict]] = {}
    for run in runs:
        found.setdefault(tuple(run[name] for name in names), []).append(run)
    yield from found.items()


def main_runs(runs: Sequence[dict]) -> list[dict]:
    """The runs of our engine by the quick solver with seed 0."""
    return [run for run in runs if (run["engine"], run["solver"], run["seed"]) == (OURS, "quick", 0)]


def accuracy_of(runs: Sequence[dict]) -> Estimate:
    """The mean over speakers in percent, with its interval."""
    return estimate(answers(runs), "right").scaled(100)


def accuracy_table(own: dict) -> str:
    """A row for each network and task: what all speakers of its tested splits give."""
    rows = []
    for (network, task, iterations), runs in groups(main_runs(own["runs"]), "network", "task", "iterations"):
        found = accuracy_of(runs)
        logged = percent(*mean_and_deviation([100 * run["accuracy"] for run in runs]))
        published = NETWORKS[network].published.get(task)
        rows.append(
            (
                network, task, iterations, len(runs), found.speakers, found.recordings,
                interval(found.mean, found.low, found.high), logged, percent(*published) if published else "",
            )
        )  # fmt: skip
    columns = (
        "network", "task", "iterations", "splits", "speakers", "recordings", "accuracy % by speakers [95 % interval]",
        "over splits", "the paper, AudioMNIST",
    )  # fmt: skip
    return markdown(columns, rows)


def splits_table(own: dict) -> str:
    """A row for each network and task, a column for each split: accuracy in percent by recordings."""
    runs = main_runs(own["runs"])
    count = 1 + max((run["split"] for run in runs), default=-1)
    rows = []
    for (network, task), members in groups(runs, "network", "task"):
        by_split = {run["split"]: f"{100 * run['accuracy']:.1f}" for run in members}
        rows.append((network, task, *(by_split.get(split, "") for split in range(count))))
    return markdown(("network", "task", *(f"split {split}" for split in range(count))), rows)


def engines_table(own: dict) -> str:
    """A row for each network and task that we trained with several seeds: accuracies of split 0 by both engines, and
    the difference of the means with Welch's 95 % interval over the seeds, where both have several."""
    chosen = [run for run in own["runs"] if run["split"] == 0 and run["solver"] == "quick"]
    rows = []
    for (network, task, iterations), members in groups(chosen, "network", "task", "iterations"):
        ours, theirs = (
            [100 * run["accuracy"] for run in members if run["engine"] == engine] for engine in (OURS, BVLC)
        )
        if len(ours) < 2:
            continue
        difference = ""
        if len(theirs) > 1:
            ends = ttest_ind(ours, theirs, equal_var=False).confidence_interval()
            difference = interval(float(np.mean(ours) - np.mean(theirs)), ends.low, ends.high)
        rows.append(
            (
                network, task, iterations, ", ".join(f"{value:.1f}" for value in ours),
                ", ".join(f"{value:.1f}" for value in theirs), difference,
            )
        )  # fmt: skip
    columns = (
        "network",
        "task",
        "iterations",
        "ours, by seed",
        "BVLC Caffe 1.0, by seed",
        "difference [95 % interval]",
    )
    return markdown(columns, rows)


def _experiment(own: dict, name: str, table: str) -> list[dict]:
    return own["experiments"].get(name, {}).get("tables", {}).get(table, [])


def gender_table(own: dict) -> str:
    """A row for each condition of the gender experiment: accuracy by speakers."""
    rows: dict[tuple, dict] = {}
    for row in _experiment(own, "gender_hypothesis", "estimates"):
        text = interval(row["mean"], row["low"], row["high"])
        rows.setdefault((row["condition"], row["edge"]), {})[row["gender"]] = text
    genders = ("female", "male", "both")
    lines = [
        (condition, "" if condition == "original" else edge, *(found.get(gender, "") for gender in genders))
        for (condition, edge), found in rows.items()
    ]
    return markdown(("frequency axis", "empty top", "women", "men", "all"), lines)


def pitch_table(own: dict) -> str:
    """A row for women, men and both: the shares of pitch and formants, and what part of the right answers they turn."""
    shares = {(row["gender"], row["part"]): row for row in _experiment(own, "pitch_or_formants", "shares")}
    flips = {(row["gender"], row["condition"]): row for row in _experiment(own, "pitch_or_formants", "flips")}
    parts, conditions = ("pitch", "formants"), ("both", "pitch", "formants", "round trip", "empty top")
    rows = [
        (
            {"female": "women", "male": "men", "both": "all"}[gender],
            *(_cell(shares[gender, part], "share", 0) for part in parts),
            *(_cell(flips[gender, condition], "flipped", 0) for condition in conditions),
        )
        for gender in dict.fromkeys(gender for gender, _ in shares)
    ]
    columns = ("", *(f"share of the {part}, %" for part in parts), *(f"{name}: turned, %" for name in conditions))
    return markdown(columns, rows)


def _cell(row: dict, name: str, digits: int = 2) -> str:
    if row[name] is None:
        return ""
    return interval(row[name], row[f"{name}_low"], row[f"{name}_high"], digits)


def faithfulness_table(own: dict) -> str:
    """A row for each source, a column for each network and task: the main variant's score."""
    from audiomnist.experiments.faithfulness import MAIN

    table = [
        row for row in _experiment(own, "faithfulness", "scores") if (row["units"], row["replacement"]) == tuple(MAIN)
    ]
    return _by_network(table, "source", lambda row: _cell(row, "score"))


def sanity_table(own: dict) -> str:
    """A row for each method, a column for each network and task: contrast; what new weights leave above the null."""
    table = _experiment(own, "sanity", "verdicts")
    return _by_network(
        table, "method", lambda row: f"{_cell(row, 'contrast')}; {_cell(row, 'above_null')}; {row['verdict']}"
    )


def _by_network(table: list[dict], name: str, cell: Callable[[dict], str]) -> str:
    columns = list(dict.fromkeys((row["network"], row["task"]) for row in table))
    lines: dict[str, dict] = {}
    for row in table:
        lines.setdefault(row[name], {})[row["network"], row["task"]] = cell(row)
    heads = [f"{network}, {task}" for network, task in columns]
    return markdown((name, *heads), [(line, *(found.get(c, "") for c in columns)) for line, found in lines.items()])


TABLES = {
    "accuracy": accuracy_table,
    "splits": splits_table,
    "engines": engines_table,
    "gender": gender_table,
    "pitch": pitch_table,
    "faithfulness": faithfulness_table,
    "sanity": sanity_table,
}
_MARKED = re.compile(r"(<!-- table: (\S+) (\S+) -->\n)(.*?)(<!-- end of table -->)", re.DOTALL)


def filled(text: str, results: dict[str, dict]) -> str:
    """A document with every marked table made from the record."""
    return _MARKED.sub(lambda match: match[1] + "\n" + TABLES[match[3]](results[match[2]]) + "\n" + match[5], text)


def write(check: bool) -> int:
    """Fill the documents; returns 1 where one differs and nothing is to be written."""
    results, differ = load(), []
    for name in DOCUMENTS:
        path = ROOT / name
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        after = filled(before, results)
        if after != before:
            differ.append(name)
            if not check:
                write_file(path, after)
    print("\n".join(f"{name}: {'tables differ from the record' if check else 'written'}" for name in differ))
    return int(check and bool(differ))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.results", description=__doc__.split("\n", 1)[0])
    commands = parser.add_subparsers(dest="command", required=True)
    add = commands.add_parser("record", help="add tested runs and experiments to the record")
    add.add_argument("name", help="of the corpus in the record")
    add.add_argument("--title", default="", help="what the recordings are")
    add.add_argument("--data", type=Path, required=True, metavar="DIR", help="the recordings")
    add.add_argument("--preprocessed", type=Path, required=True, metavar="DIR", help="the networks' inputs")
    add.add_argument("--runs", type=Path, nargs="+", required=True, metavar="DIR", help="folders of runs")
    add.add_argument("--results", type=Path, metavar="DIR", help="the results folder of the study")
    written = commands.add_parser("write", help="fill the documents' tables")
    written.add_argument("--check", action="store_true", help="change nothing; status 1 where a table differs")
    options = parser.parse_args(arguments)
    if options.command == "write":
        return write(options.check)
    record(options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
