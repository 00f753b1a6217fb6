"""One page of results, as HTML that needs no other file and as Markdown that links to the files beside it.

It is made from what the experiments left behind (`outcome.json` and its files), and can be made again at any time.
"""

from __future__ import annotations

import base64
import html
import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from audiomnist.corpus.demo_corpus import MANIFEST as DEMO_MANIFEST
from audiomnist.runs.networks import NETWORKS
from audiomnist.runs.render import solver_value
from audiomnist.study.catalogue import catalogue
from audiomnist.study.outcome import RECORD
from audiomnist.study.setting import Setting
from audiomnist.study.trained import trained_runs
from caffe_proto import read_solver, write_file

HTML_NAME, MARKDOWN_NAME = "index.html", "RESULTS.md"
TITLE = "AudioMNIST, reproduced"
PAPER = (
    "Becker, Vielhaben, Ackermann, Müller, Lapuschkin, Samek, “AudioMNIST: Exploring Explainable Artificial "
    "Intelligence for Audio Analysis on a Simple Benchmark”, Journal of the Franklin Institute 361(1), 2024"
)
PAPER_SPLITS = {"digit": 5, "gender": 4}
SHOWN_ROWS = 12  # of a table; the CSV beside it has all
SHOWN_TABLES = {"table1": ["table1"], "corpus": ["summary"]}  # whose numbers are read rather than seen

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 75em; margin: 2em auto; padding: 0 1em; color: #222; }
img { max-width: 100%; } figure { margin: 1.5em 0; } figcaption { color: #555; font-size: 90%; }
table { border-collapse: collapse; margin: 1em 0; } td, th { padding: 0.2em 0.8em; border-bottom: 1px solid #ccc;
text-align: left; } .no { color: #a00; } .yes { color: #070; } .check { color: #555; font-style: italic; }
audio { height: 2em; vertical-align: middle; }
"""


@dataclass(frozen=True)
class Section:
    """An experiment's outcome as it lies in its folder."""

    name: str
    folder: Path
    record: dict

    def table(self, stem: str) -> pd.DataFrame:
        return pd.read_csv(self.folder / f"{stem}.csv").head(SHOWN_ROWS)


def sections(output: Path) -> list[Section]:
    """The outcomes that there are, in the catalogue's order."""
    found = []
    for name in catalogue():
        path = output / name / RECORD
        record = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        if "made_from" in record:  # else its files are not all written
            found.append(Section(name, path.parent, record))
    return found


def differences(setting: Setting) -> list[str]:
    """What is different from the paper here, and why, as sentences: read off the recordings and the runs."""
    found = []
    if (setting.data / DEMO_MANIFEST).exists():
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
    return found


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "" if pd.isna(value) else f"{value:.2f}".removesuffix(".00")
    return str(value)


def _rows(frame: pd.DataFrame) -> list[list[str]]:
    head = [str(column).replace("_", " ") for column in frame.columns]
    return [head, *([_cell(value) for value in row] for row in frame.values.tolist())]


def markdown(output: Path, setting: Setting) -> str:
    """The page as Markdown; pictures, sounds and tables are links relative to `output`."""
    lines = [f"# {TITLE}", "", f"The study: {PAPER}.", "", "## What differs from the paper, and why", ""]
    lines += [f"- {text}" for text in differences(setting)]
    for section in sections(output):
        record = section.record
        lines += ["", f"## {record['title']}", ""]
        for stem in SHOWN_TABLES.get(section.name, ()):
            head, *body = _rows(section.table(stem))
            lines += [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *body)] + [""]
        lines += [f"- {text}" for text in record["findings"]]
        lines += [
            f"- {'**Holds**' if c['holds'] else '**Does not hold here**'}: {c['statement']} ({c['evidence']})"
            for c in record["conclusions"]
        ]
        lines += [f"- *To be checked in the paper:* {text}" for text in record["unverified"]]
        for name, caption in record["figures"].items():
            lines += ["", f"![{section.name}]({section.name}/{name})", "", caption]
        for name, caption in record["sounds"].items():
            lines += ["", f"[{caption}]({section.name}/{name})"]
        lines += [
            "",
            "Tables: " + ", ".join(f"[{n}]({section.name}/{n})" for n in record["tables"]) + ". Code "
            f"{record['made_from']['code'][:12]}, seed {record['made_from']['seed']}.",
        ]
    return "\n".join(lines) + "\n"


def _embedded(path: Path, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def page(output: Path, setting: Setting) -> str:
    """The page as HTML with everything inside."""
    e = html.escape
    parts = [f"<h1>{TITLE}</h1><p>The study: {e(PAPER)}.</p><h2>What differs from the paper, and why</h2><ul>"]
    parts += [f"<li>{e(text)}</li>" for text in differences(setting)]
    parts.append("</ul>")
    for section in sections(output):
        record = section.record
        parts.append(f'<h2 id="{section.name}">{e(record["title"])}</h2>')
        for stem in SHOWN_TABLES.get(section.name, ()):
            head, *body = _rows(section.table(stem))
            parts.append("<table><tr>" + "".join(f"<th>{e(c)}</th>" for c in head) + "</tr>")
            parts += ["<tr>" + "".join(f"<td>{e(c)}</td>" for c in row) + "</tr>" for row in body]
            parts.append("</table>")
        parts.append("<ul>")
        parts += [f"<li>{e(text)}</li>" for text in record["findings"]]
        for c in record["conclusions"]:
            mark = '<b class="yes">Holds</b>' if c["holds"] else '<b class="no">Does not hold here</b>'
            parts.append(f"<li>{mark}: {e(c['statement'])} ({e(c['evidence'])})</li>")
        parts += [f'<li class="check">To be checked in the paper: {e(text)}</li>' for text in record["unverified"]]
        parts.append("</ul>")
        for name, caption in record["figures"].items():
            source = _embedded(section.folder / name, "image/png")
            parts.append(f'<figure><img alt="{section.name}" src="{source}">')
            parts.append(f"<figcaption>{e(caption)}</figcaption></figure>")
        for name, caption in record["sounds"].items():
            source = _embedded(section.folder / name, "audio/wav")
            parts.append(f'<p><audio controls src="{source}"></audio> {e(caption)}</p>')
        links = ", ".join(f'<a href="{section.name}/{name}">{name}</a>' for name in record["tables"])
        parts.append(
            f'<p class="check">Tables: {links}. Code {record["made_from"]["code"][:12]}, seed '
            f"{record['made_from']['seed']}.</p>"
        )
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{TITLE}</title><style>{STYLE}</style>'
        f"</head><body>\n{body}\n</body></html>\n"
    )


def write(output: Path, setting: Setting) -> list[Path]:
    """Write both forms of the page; returns their paths."""
    output.mkdir(parents=True, exist_ok=True)
    pages = {HTML_NAME: page(output, setting), MARKDOWN_NAME: markdown(output, setting)}
    for name, text in pages.items():
        write_file(output / name, text)
    return [output / name for name in pages]
