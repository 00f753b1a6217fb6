"""The page word by word, from made-up outcomes: everything that an outcome holds is there, in its order, and linked."""

import base64
import html
import json
import math
import re
import struct
import wave

import pandas as pd
import pytest
from PIL import Image

from audiomnist.study import results_page
from audiomnist.study.results_page import DIFFERENCES, PAPER, PARTS, TITLE, VERDICTS
from audiomnist.study.setting import ExperimentError, Setting
from tests.chromium import look
from tests.html_structure import faults

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
    assert faults(page) == []
    main = page.split('<main id="results">')[1].split("</main>")[0]
    text = html.unescape(re.sub(r"<[^>]+>", "\n", main))
    found = [line for line in text.splitlines() if line.strip(" ,:()")]
    head = [TITLE, f"The study: {PAPER}.", VERDICTS, DIFFERENCES, "one & two", "three", PARTS]
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
    assert re.findall(r'<h2 id="(\w+)">', page) == ["differences", "parts", "table1", "audible_heatmaps"]
    contents = re.findall(r'<a href="#(\w+)">([^<]+)</a>', page.split("</nav>")[0])
    titles = [html.escape(f"Title of {name} & more") for name in ("table1", "audible_heatmaps")]
    assert [name for name, _ in contents] == ["differences", "parts", "table1", "audible_heatmaps"]
    assert [title for _, title in contents] == [html.escape(DIFFERENCES), html.escape(PARTS), *titles]


def test_both_forms_are_written_where_no_folder_is_yet(output, tmp_path):
    folder = tmp_path / "not" / "yet"
    assert results_page.write(folder, Setting()) == [folder / "index.html", folder / "RESULTS.md"]
    assert (folder / "RESULTS.md").read_text() == results_page.markdown(folder, Setting())
    assert (folder / "index.html").read_text() == results_page.page(folder, Setting())


# By keyboard alone: every stop shows where it is; the contents, the table, the figure, the sound; then every window
LOOK = """
  const said = {stops: [], sorted: []}, press = key => page.keyboard.press(key);
  const at = () => page.evaluate(() => {
    const one = document.activeElement, {outlineStyle, outlineWidth} = getComputedStyle(one);
    const {top, bottom} = one.getBoundingClientRect();
    const seen = outlineStyle !== "none" && parseFloat(outlineWidth) >= 2 && bottom > 0 && top < innerHeight;
    return [one.textContent.trim() || one.ariaLabel || one.title, seen];
  });
  const until = async name => {
    for (let stop = []; stop[0] !== name;) {
      await press("Tab");
      stop = await at();
      if (said.stops.push(stop) > 80) throw Error(`${name} is never reached: ${said.stops.join("; ")}`);
    }
  };
  said.mistakes = [await mistakes(await page.content()), await mistakes(SOURCE)];
  await until("Skip the contents");
  await until("Contents");
  const rows = page.locator("table.sortable tbody tr");
  const column = k => rows.evaluateAll((all, k) => all.map(row => row.cells[k].textContent), k);
  for (const [k, name] of [[1, "mean"], [2, "none"], [3, "word"]]) {
    await until(name);
    for (const key of ["Enter", "Space"]) {
      await press(key);
      const way = await page.locator("th").evaluateAll(heads => heads.map(head => head.ariaSort).filter(Boolean));
      said.sorted.push([way, await column(k)]);
    }
  }
  await until("enlarge");
  await press("Enter");
  said.large = await page.locator("dialog img").evaluate(one => [one.clientWidth, one.naturalWidth, one.alt]);
  said.barriers = await barriers();
  await press("Escape");
  said.closed = [await page.locator("dialog").evaluate(one => one.open), (await at())[0]];
  await page.locator(".zoom").first().click();
  await page.getByRole("button", {name: "close"}).click();
  said.closed.push(await page.locator("dialog").evaluate(one => one.open));
  await until("sound of x");
  await press("Space");
  const line = page.locator(".cursor").nth(2), place = () => line.evaluate(one => parseFloat(one.style.left));
  await line.waitFor();
  const before = await place();
  await page.waitForFunction(then => parseFloat(document.querySelectorAll(".cursor")[2].style.left) > then, before);
  await line.waitFor({state: "hidden"});
  await page.locator("audio").nth(2).evaluate(async sound => {
    sound.currentTime = 0.25;  // of one second
    await new Promise(done => { sound.addEventListener("seeked", done); });
  });
  said.place = await place();
  said.windows = await windows(async () => {
    await page.evaluate(() => scrollTo(0, document.body.scrollHeight));
    return [await page.locator("nav summary").isVisible()];
  });
  await page.locator("nav summary").click();  // on the phone: unfolded, followed, folded again
  await page.locator("nav a").last().click();
  const top = await page.locator("h2").last().evaluate(one => one.getBoundingClientRect().top);
  said.followed = [top > 40 && top < 120, await page.locator("nav details").evaluate(one => one.open)];
  return said;
"""


@pytest.mark.slow
def test_the_page_in_a_browser(output):
    rows = {"mean": [3, -1.5, -20, 0.25], "none": [None, "b", "a", None], "word": ["<9>", "a10", "a9", "Ä"]}
    pd.DataFrame(rows | {"split_number": range(4)}).to_csv(output / "table1" / "table1.csv")
    for file in FIGURES:
        Image.new("RGB", (1500, 400), "orange").save(output / "audible_heatmaps" / file)
    for name in ("audible_heatmaps", "table1"):
        for file in SOUNDS:
            with wave.open(str(output / name / file), "wb") as sound:
                sound.setparams((1, 2, 8000, 0, "NONE", ""))
                tone = [round(9000 * math.sin(k / 9)) for k in range(8000)]
                sound.writeframes(struct.pack("<8000h", *tone))
    results_page.write(output, Setting())
    page = output / "index.html"
    said = look(page.as_uri(), LOOK.replace("SOURCE", json.dumps(page.read_text(encoding="utf-8"))))
    assert said["mistakes"] == [[], []] and said["barriers"] == []
    assert [name for name, seen in said["stops"] if not seen] == []
    up, down = ["ascending"], ["descending"]
    assert said["sorted"] == [
        [up, ["-20", "-1.50", "0.25", "3"]],
        [down, ["3", "0.25", "-1.50", "-20"]],
        [up, ["a", "b", "", ""]],
        [down, ["b", "a", "", ""]],
        [up, ["<9>", "Ä", "a9", "a10"]],
        [down, ["a10", "a9", "Ä", "<9>"]],
    ]
    assert said["large"] == [1500, 1500, "Title of audible_heatmaps & more: a"]
    assert said["place"] == pytest.approx(25, abs=0.01)
    assert said["closed"] == [False, "enlarge", False]
    assert said["windows"] == [[[], 0, True]] * 4 and said["followed"] == [True, False]


def test_a_record_of_somebody_else_shows_its_own_files_alone_and_runs_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(results_page, "differences", lambda setting: [])
    monkeypatch.setattr(results_page, "SHOWN_TABLES", {})
    name = 'x"><script>alert(1)<'
    folder = outcome(tmp_path, "table1", tables=[f"{name}.csv"], title=name, findings=[name], figures={}, sounds={})
    page = results_page.page(tmp_path, Setting())
    assert name not in page and "x&quot;&gt;&lt;script&gt;alert(1)&lt;.csv" in page
    for kind, names in (("figures", {"../../secret": "a"}), ("sounds", {"/etc/passwd": "a"}), ("tables", ["../a.csv"])):
        record = json.loads((folder / "outcome.json").read_text())
        (folder / "outcome.json").write_text(json.dumps(record | {kind: names}))
        with pytest.raises(ExperimentError, match="outcome.json: expected names of files in its folder, got '[./]"):
            results_page.page(tmp_path, Setting())
        (folder / "outcome.json").write_text(json.dumps(record))
