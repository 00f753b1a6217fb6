"""The page word by word, from made-up outcomes: everything that an outcome holds is there, in its order, and linked."""

import base64
import html
import json
import re

import pandas as pd
import pytest

from audiomnist.study import results_page
from audiomnist.study.results_page import DIFFERENCES, PAPER, PARTS, TITLE, VERDICTS
from audiomnist.study.setting import Setting

FINDINGS = ["first <finding>", "second & last"]
FIGURES = {"a.png": "caption of a", "b.png": "caption of b"}
SOUNDS = {"x.wav": "sound of x", "y.wav": "sound of y"}
NOT_DONE = "not reproduced, because this experiment has no results here"


def outcome(output, name, **changes):
    """An experiment's folder; of the table 14 rows: a whole number, a fraction, nothing, one not shown, and a word."""
    folder = output / name
    folder.mkdir(parents=True)
    rows = [{"split_number": k, "mean": k / 8, "none": None, "more": k, "word": f"<{k}>"} for k in range(14)]
    pd.DataFrame(rows).to_csv(folder / f"{name}.csv", index=False)
    for file in (*FIGURES, *SOUNDS):
        (folder / file).write_bytes(file.encode())
    record = {
        "title": f"Title of {name} & more", "files": [], "made_from": {"code": "c" * 64, "seed": 7, "version": "1.2"},
        "tables": [f"{name}.csv", "more.csv"], "figures": FIGURES, "sounds": SOUNDS, "arrays": ["z.hdf5"],
        "findings": FINDINGS, "conclusions": [], "unverified": ["which figure"],
    }  # fmt: skip
    (folder / "outcome.json").write_text(json.dumps(record | changes))
    return folder


@pytest.fixture
def output(tmp_path, monkeypatch):
    """Results of two experiments, a third whose files are not all written; nothing else differs but two sentences."""
    monkeypatch.setattr(results_page, "differences", lambda setting: ["one & two", "three"])
    shown = {"table1": ("table1", ["split_number", "mean", "none", "word"])}
    monkeypatch.setattr(results_page, "SHOWN_TABLES", shown)
    outcome(tmp_path, "audible_heatmaps")
    outcome(tmp_path, "table1", figures={})
    folder = outcome(tmp_path, "waveform_relevance")
    record = json.loads((folder / "outcome.json").read_text())
    del record["made_from"]
    (folder / "outcome.json").write_text(json.dumps(record))
    return tmp_path


def test_the_markdown_is_this_text(output):
    def section(name, table, figures):
        yield from ("", f"## Title of {name} & more", "")
        yield from table
        yield from ("- first <finding>", "- second & last", "- *To be checked in the paper:* which figure")
        for file, caption in figures.items():
            svg = file.replace(".png", ".svg")
            yield from ("", f"![{name}]({name}/{file})", "", f"{caption} ([SVG]({name}/{svg}))")
        for file, caption in SOUNDS.items():
            yield from ("", f"[{caption}]({name}/{file})")
        links = f"[{name}.csv]({name}/{name}.csv), [more.csv]({name}/more.csv), [z.hdf5]({name}/z.hdf5)"
        yield from ("", f"Files: {links}. Version 1.2, code cccccccccccc, seed 7.")

    means = [
        "0",
        "0.12",
        "0.25",
        "0.38",
        "0.50",
        "0.62",
        "0.75",
        "0.88",
        "1",
        "1.12",
        "1.25",
        "1.38",
    ]  # of the first twelve rows
    table = ["| split number | mean | none | word |", "| --- | --- | --- | --- |",
             *(f"| {k} | {mean} |  | <{k}> |" for k, mean in enumerate(means)), ""]  # fmt: skip
    audible = ", ".join(f"[{f}](audible_heatmaps/{f})" for f in ("audible_heatmaps.csv", "a.png", "b.png", "x.wav"))
    table1 = ", ".join(f"[{f}](table1/{f})" for f in ("table1.csv", "more.csv", "x.wav"))
    parts = {"Table 1": table1, "audible heatmaps": audible, "user study": None}
    lines = [f"# {TITLE}", "", f"The study: {PAPER}.", "", VERDICTS, "", f"## {DIFFERENCES}", "", "- one & two",
             "- three", "", f"## {PARTS}", "", "| in the paper | here |", "|---|---|"]  # fmt: skip
    for part, _, remark in results_page.PARTS_OF_THE_PAPER:
        here = next((text for begin, text in parts.items() if part.startswith(begin)), NOT_DONE)
        lines.append(f"| {part} | {here or remark} |")
    lines += [*section("table1", table, {}), *section("audible_heatmaps", [], FIGURES)]
    assert results_page.markdown(output, Setting()).splitlines() == lines


def test_the_html_says_the_same_with_everything_inside(output):
    page = results_page.page(output, Setting())
    text = html.unescape(re.sub(r"<style>.*?</style>|<[^>]+>", "\n", page, flags=re.DOTALL))
    found = [line for line in text.splitlines() if line.strip(" ,:()")]
    head = [TITLE, TITLE, f"The study: {PAPER}.", VERDICTS, DIFFERENCES, "one & two", "three", PARTS]
    assert found[: len(head)] == head
    own = found[found.index("Title of table1 & more") :]
    assert own[1:5] == ["split number", "mean", "none", "word"] and own[5:8] == ["0", "0", "<0>"]
    assert own[own.index("<11>") + 1 :][:3] == [*FINDINGS, "To be checked in the paper: which figure"]
    last = found[found.index("Title of audible_heatmaps & more") + 1 :]
    assert last[:3] == [*FINDINGS, "To be checked in the paper: which figure"]
    captions = [line.strip(" (") for line in last if line.strip(" (") in (*FIGURES.values(), *SOUNDS.values())]
    assert captions == [*FIGURES.values(), *SOUNDS.values()]
    assert "Version 1.2, code cccccccccccc, seed 7." in last[-1]
    sources = re.findall(r'src="data:(image/png|audio/wav);base64,([^"]+)"', page)
    assert [base64.b64decode(data).decode() for _, data in sources] == ["x.wav", "y.wav", *FIGURES, *SOUNDS]
    assert [kind for kind, _ in sources] == ["audio/wav"] * 2 + ["image/png"] * 2 + ["audio/wav"] * 2
    links = re.findall(r'href="audible_heatmaps/([^"]+)"', page)
    assert links[-5:] == ["a.svg", "b.svg", "audible_heatmaps.csv", "more.csv", "z.hdf5"]
    assert re.findall(r'<h2 id="(\w+)">', page) == ["table1", "audible_heatmaps"]


def test_both_forms_are_written_where_no_folder_is_yet(output, tmp_path):
    folder = tmp_path / "not" / "yet"
    assert results_page.write(folder, Setting()) == [folder / "index.html", folder / "RESULTS.md"]
    assert (folder / "RESULTS.md").read_text() == results_page.markdown(folder, Setting())
    assert (folder / "index.html").read_text() == results_page.page(folder, Setting())
