"""One page of results, as HTML that needs no other file and as Markdown that links to the files beside it.

It is made from what the experiments left behind (`outcome.json` and its files), and can be made again at any time. The
tests of the paper's claims are judged together, whichever experiment they come from.
"""

from __future__ import annotations

import html
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from audiomnist.explain.page import document, embedded, player
from audiomnist.preprocessing.lists import REJECTED
from audiomnist.runs.networks import NETWORKS
from audiomnist.runs.render import solver_value
from audiomnist.signal.inputs import PERCENTILE
from audiomnist.study.catalogue import catalogue
from audiomnist.study.conclusion import Conclusion, judge
from audiomnist.study.outcome import RECORD, read_outcome
from audiomnist.study.paper import CLAIMS, PARTS_OF_THE_PAPER, is_demo
from audiomnist.study.paper import TITLE as PAPER
from audiomnist.study.setting import ExperimentError, Setting
from audiomnist.study.statistics import ALPHA
from audiomnist.study.trained import trained_runs
from caffe_proto import read_solver, write_file

HTML_NAME, MARKDOWN_NAME = "index.html", "RESULTS.md"
TITLE = "AudioMNIST, reproduced"
DIFFERENCES, PARTS = "What differs from the paper, and why", "The paper's parts, and where they are here"
VERDICTS = (
    "Verdicts: an accuracy is reproduced where its 95 % interval over speakers lies within 2 points of the paper's, or "
    "within the paper's standard deviation if that is more; a direction, where the interval lies on its side and the "
    f"sign-flip test over speakers says so (Holm's p below {ALPHA}, over the {len(CLAIMS)} tests of the paper's claims "
    "or over the further tests of the same experiment). Not reproduced: the interval lies wholly elsewhere. Undecided: "
    "neither. Not applicable: the numbers are no evidence about the paper."
)
PAPER_SPLITS = {"digit": 5, "gender": 4}
SHOWN_ROWS = 12  # of a table; the CSV beside it has all
SHOWN_TABLES = {  # whose numbers are read rather than seen: experiment -> (table, its columns)
    "table1": (
        "table1",
        [
            *("network", "task", "accuracy", "low", "high", "paper_mean", "paper_std", "difference"),
            *("splits", "speakers", "recordings"),
        ],
    ),
    "corpus": ("summary", ["quantity", "ours", "paper"]),
}


@dataclass(frozen=True)
class Section:
    """An experiment's outcome as it lies in its folder."""

    name: str
    folder: Path
    record: dict

    @cached_property
    def conclusions(self) -> list[Conclusion]:
        """What was concluded, before it is judged beside the other sections. Raises ExperimentError."""
        try:
            return [Conclusion.from_record(record) for record in self.record["conclusions"]]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            got = f"others ({type(error).__name__}: {error})"
            raise ExperimentError(self.folder / RECORD, "conclusions as experiments record them", got) from None

    @property
    def shown(self) -> list[list[str]]:
        """The rows of its table that is shown, the head first; none where no table is."""
        if self.name not in SHOWN_TABLES:
            return []
        stem, columns = SHOWN_TABLES[self.name]
        return _rows(read_table(self.folder / f"{stem}.csv", columns).head(SHOWN_ROWS))


def read_table(path: Path, columns: list[str]) -> pd.DataFrame:
    """These columns of a table that an experiment or preprocessing wrote as CSV. Raises ExperimentError."""
    try:
        return pd.read_csv(path)[columns]
    except (KeyError, ValueError) as error:  # of pandas: no such columns, no UTF-8, no table
        raise ExperimentError(path, f"a table with {', '.join(columns)}", str(error).splitlines()[0]) from None


def _check(record: dict, path: Path) -> None:
    """Refuse a record that says something else than `outcome.write` does. Raises ExperimentError."""
    texts = dict.fromkeys(("findings", "unverified", "tables", "arrays"), list)
    texts |= dict.fromkeys(("figures", "sounds"), dict)
    for name, kind in texts.items():
        found = record.get(name)
        inside = [*found, *found.values()] if isinstance(found, dict) else found
        if not isinstance(found, kind) or not all(isinstance(text, str) for text in inside):
            raise ExperimentError(path, f"{name} that are texts", f"{found!r:.60}")
    made_from = record["made_from"]
    whole = isinstance(made_from, dict) and all(isinstance(made_from.get(name), str) for name in ("version", "code"))
    if not whole or not isinstance(record.get("title"), str):
        raise ExperimentError(path, "a title, and the version and code that made it", f"{made_from!r:.60}")
    for file in (file for kind in ("tables", "figures", "sounds", "arrays") for file in record[kind]):
        if Path(file).name != file:  # somebody else's record would show whatever it names
            raise ExperimentError(path, "names of files in its folder", repr(file))


def sections(output: Path) -> list[Section]:
    """The outcomes that there are, in the catalogue's order."""
    found = []
    for name in catalogue():
        folder = output / name
        record = read_outcome(folder) if (folder / RECORD).exists() else {}
        if "made_from" in record:  # else its files are not all written
            _check(record, folder / RECORD)
            found.append(Section(name, folder, record))
    return found


def differences(setting: Setting) -> list[str]:
    """What is different from the paper here, and why, as sentences: read off the recordings and the runs."""
    found = []
    if is_demo(setting.data):
        found.append(
            "The recordings are synthetic speech of a demo, not people: the numbers show that the path works "
            "and say nothing about AudioMNIST."
        )
    runs = trained_runs(setting)
    for network in NETWORKS.values():
        own = [run for run in runs if run.run.network == network.name]
        template = network.template("solver").read_text(encoding="utf-8")
        wanted = solver_value(template, "max_iter")
        other = sorted({run.iterations for run in own} - {wanted})
        if other:
            found.append(
                f"{network.name} was trained for {' and '.join(map(str, other))} iterations; the paper's "
                f"solver does {wanted}."
            )
        kinds = sorted({read_solver(run.folder / "solver.prototxt").type for run in own} - {"SGD"})
        if kinds:
            found.append(
                f"{network.name} was trained with the demo's quick solver ({', '.join(kinds)}) and fillers "
                "instead of the paper's (SGD, gaussian)."
            )
        for task, count in PAPER_SPLITS.items():
            done = len([run for run in own if run.run.task == task])
            if done < count:
                found.append(f"{network.name} on {task}: {done} of the paper's {count} splits are trained.")
    engines = ", ".join(sorted({run.engine for run in runs}))
    found.append(
        f"The engine that trained is {engines}; the paper used BVLC Caffe. Initial weights, shuffling and "
        "dropout are seeded here; the paper's seeds are not known."
    )
    found.append(
        "Where a recording lies in its padded second is drawn from a seed and the file's name; the authors' "
        "script draws it unseeded, so theirs cannot be repeated."
    )
    found.append(
        "Of the spectrogram's 228 frequencies and 230 frames the lowest 227 and all frames but the first two and the "
        "last are kept, as the authors' script does; the paper's text describes the crop otherwise (unverified)."
    )
    found.append(
        "Pictures and sounds explain the true class of a recording, also where the network says another one (the tests "
        "of faithfulness and sanity the predicted class, where they do not say otherwise), and start from its score "
        f"before the softmax; the composites are {', '.join(setting.composites)}, the first wherever one "
        "is used. Unless a composite says otherwise its rules measure from an input of zeros: silence for waveforms, "
        "but the loudest value, 0 dB, for spectrograms. Which target, reference and rules the paper has is unverified."
    )
    return [*found, *rejections(setting.preprocessed)]


def rejections(preprocessed: Path) -> list[str]:
    """How many recordings preprocessing left out and for which network's sake, as sentences."""
    path = preprocessed / REJECTED
    if not path.exists():
        return ["No recording was rejected: preprocessing refuses a corpus with defects unless told to leave them out."]
    rejected = read_table(path, ["file", "expected"]).astype("string").fillna("")
    wavs = rejected[rejected["file"].str.lower().str.endswith(".wav")].drop_duplicates("file")
    scaling = int(wavs["expected"].str.contains(f"{PERCENTILE}th percentile", regex=False).sum())
    return [
        f"{len(wavs)} recordings were rejected, for both networks: {scaling} because AudioNet's scaling cannot be "
        f"computed from them (AlexNet could have used them), {len(wavs) - scaling} because neither network can use "
        "them."
    ]


def parts_of_the_paper(found: list[Section]) -> list[tuple[str, str, list[str]]]:
    """(part of the paper, experiment or "", files or a sentence why it is not reproduced) for each part."""
    made = {section.name: section for section in found}
    rows = []
    for part, name, remark in PARTS_OF_THE_PAPER:
        if name is None:
            rows.append((part, "", [remark]))
        elif name in made:
            record = made[name].record
            tables = record["tables"] if not record["figures"] else record["tables"][:1]
            rows.append((part, name, [*tables, *record["figures"], *list(record["sounds"])[:1]]))
        else:
            rows.append((part, "", ["not reproduced, because this experiment has no results here"]))
    return rows


def judged(found: list[Section]) -> dict[str, list[tuple[Conclusion, str, str]]]:
    """{section: its conclusions, each with verdict and evidence}, the paper's claims of all sections together."""
    own = {section.name: section.conclusions for section in found}
    said = judge(own)
    return {name: [(one, *its) for one, its in zip(own[name], said[name], strict=True)] for name in own}


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "" if pd.isna(value) else f"{value:.2f}".removesuffix(".00")
    return str(value)


def _rows(frame: pd.DataFrame) -> list[list[str]]:
    head = [str(column).replace("_", " ") for column in frame.columns]
    return [head, *([_cell(value) for value in row] for row in frame.values.tolist())]


def _scalable(name: str) -> str:
    """The name of a picture's SVG file."""
    return Path(name).with_suffix(".svg").name


def markdown(output: Path, setting: Setting) -> str:
    """The page as Markdown; pictures, sounds and tables are links relative to `output`."""
    found = sections(output)
    verdicts = judged(found)
    lines = [f"# {TITLE}", "", f"The study: {PAPER}.", "", f"{VERDICTS}", "", f"## {DIFFERENCES}", ""]
    lines += [f"- {text}" for text in differences(setting)]
    lines += ["", f"## {PARTS}", "", "| in the paper | here |", "|---|---|"]
    for part, name, files in parts_of_the_paper(found):
        lines.append(f"| {part} | {', '.join(f'[{f}]({name}/{f})' if name else f for f in files)} |")
    for section in found:
        record = section.record
        lines += ["", f"## {record['title']}", ""]
        if rows := section.shown:
            lines += [f"| {' | '.join(row)} |" for row in (rows[0], ["---"] * len(rows[0]), *rows[1:])] + [""]
        lines += [f"- {text}" for text in record["findings"]]
        lines += [
            f"- **{verdict.capitalize()}**: {one.statement} ({evidence})"
            for one, verdict, evidence in verdicts[section.name]
        ]
        lines += [f"- *To be checked in the paper:* {text}" for text in record["unverified"]]
        for name, caption in record["figures"].items():
            lines += ["", f"![{section.name}]({section.name}/{name})", ""]
            lines += [f"{caption} ([SVG]({section.name}/{_scalable(name)}))"]
        for name, caption in record["sounds"].items():
            lines += ["", f"[{caption}]({section.name}/{name})"]
        links = ", ".join(f"[{name}]({section.name}/{name})" for name in [*record["tables"], *record["arrays"]])
        lines += ["", f"Files: {links}. {_made_from(record)}"]
    return "\n".join(lines) + "\n"


def _made_from(record: dict) -> str:
    made_from = record["made_from"]
    return f"Version {made_from['version']}, code {made_from['code'][:12]}, seed {made_from.get('seed')}."


def _table(rows: list[list[str]], name: str, kind: str) -> str:
    """A table of cells that are HTML, the head first, which scrolls by itself where it is wider than the window.

    name: what it is called to those who hear the page; kind: "sortable" or "fixed".
    """
    head, *body = rows
    return (
        f'<div class="table" role="region" tabindex="0" aria-label="{html.escape(name)}">'
        f'<table class="{kind}">\n<thead><tr>'
        + "".join(f'<th scope="col">{cell}</th>' for cell in head)
        + "</tr></thead>\n<tbody>\n"
        + "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>\n" for row in body)
        + "</tbody></table></div>"
    )


def _contents(found: list[Section]) -> str:
    """The list of contents; page.js keeps it in reach."""
    places = {"differences": DIFFERENCES, "parts": PARTS} | {one.name: one.record["title"] for one in found}
    links = "".join(f'<li><a href="#{name}">{html.escape(title)}</a></li>\n' for name, title in places.items())
    return (
        '<a class="skip" href="#results">Skip the contents</a>\n<nav aria-label="Contents"><details open>'
        f"<summary>Contents</summary>\n<ul>\n{links}</ul>\n</details></nav>"
    )


def _section(section: Section, verdicts: list[tuple[Conclusion, str, str]]) -> list[str]:
    """An experiment's part of the page, as pieces of HTML."""
    e, record = html.escape, section.record
    parts = [f'<h2 id="{section.name}">{e(record["title"])}</h2>']
    if rows := section.shown:
        parts.append(_table([[e(cell) for cell in row] for row in rows], record["title"], "sortable"))
    points = [f"<li>{e(text)}</li>" for text in record["findings"]]
    for one, verdict, evidence in verdicts:
        mark = f'<strong class="{verdict.replace(" ", "-")}">{verdict.capitalize()}</strong>'
        points.append(f"<li>{mark}: {e(one.statement)} ({e(evidence)})</li>")
    points += [f'<li class="quiet">To be checked in the paper: {e(text)}</li>' for text in record["unverified"]]
    if points:
        parts += ["<ul>", *points, "</ul>"]
    for name, caption in record["figures"].items():
        what = e(f"{record['title']}: {Path(name).stem.replace('_', ' ')}")
        link = f'<a href="{section.name}/{e(_scalable(name))}">SVG</a>'
        source = embedded((section.folder / name).read_bytes(), "image/png")
        parts.append(f'<figure><img alt="{what}" src="{source}">')
        parts.append(f"<figcaption>{e(caption)} ({link})</figcaption></figure>")
    for name, caption in record["sounds"].items():
        parts.append(f'<figure class="sound"><figcaption>{e(caption)}</figcaption>')
        parts.append('<div class="picture"><canvas width="640" height="72"></canvas></div>')
        parts.append(f"{player((section.folder / name).read_bytes(), caption)}</figure>")
    files = [*record["tables"], *record["arrays"]]
    links = ", ".join(f'<a href="{section.name}/{e(name)}">{e(name)}</a>' for name in files)
    return [*parts, f'<p class="quiet">Files: {links}. {e(_made_from(record))}</p>']


def page(output: Path, setting: Setting) -> str:
    """The page as HTML with everything inside."""
    e = html.escape
    found = sections(output)
    verdicts = judged(found)
    parts = [_contents(found), '<main id="results">', f"<h1>{TITLE}</h1>"]
    parts += [f"<p>The study: {e(PAPER)}.</p>", f"<p>{e(VERDICTS)}</p>", f'<h2 id="differences">{DIFFERENCES}</h2>']
    parts += ["<ul>", *(f"<li>{e(text)}</li>" for text in differences(setting)), "</ul>"]
    rows = [["in the paper", "here"]]
    for part, name, files in parts_of_the_paper(found):
        links = ", ".join(f'<a href="{name}/{e(file)}">{e(file)}</a>' if name else e(file) for file in files)
        rows.append([e(part), links])
    parts += [f'<h2 id="parts">{PARTS}</h2>', _table(rows, PARTS, "fixed")]
    for section in found:
        parts += _section(section, verdicts[section.name])
    return document(TITLE, "\n".join([*parts, "</main>"]))


def write(output: Path, setting: Setting) -> list[Path]:
    """Write both forms of the page; returns their paths."""
    output.mkdir(parents=True, exist_ok=True)
    pages = {HTML_NAME: page(output, setting), MARKDOWN_NAME: markdown(output, setting)}
    for name, text in pages.items():
        write_file(output / name, text)
    return [output / name for name in pages]
