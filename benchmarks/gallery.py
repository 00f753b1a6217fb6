"""What the notebooks draw, as one page: docs/gallery.md and its small pictures, from a results folder of the study.

    python -m benchmarks.gallery results
    python -m benchmarks.gallery az_results --title "59 Azerbaijani speakers, real voices"
    python -m benchmarks.gallery az_results --keep --title "59 Azerbaijani speakers, real voices"
    python -m benchmarks.gallery --first seven.png

Titles and captions are the experiments' own, questions those of the notebooks. A folder in which experiments are
missing makes a page without them, or, with `--keep`, leaves those as they are on the page: a results folder may grow in
parts. The same folder makes the same files. Pictures that the page does not show are removed.
`--first` takes a picture that `lrp` made as the one that README begins with.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from PIL import Image

from audiomnist.door import door
from audiomnist.study import paper, results_page
from audiomnist.study.catalogue import catalogue
from audiomnist.study.results_page import Section
from benchmarks.results import describe
from caffe_proto import UserError, write_file

ROOT = Path(__file__).resolve().parents[1]
PAGE, PICTURES = "docs/gallery.md", "docs/pictures/gallery"
FIRST, FIRST_BYTES = "docs/pictures/seven_real.png", 150_000  # what README begins with
MOST = 2  # pictures of an experiment; the first ones, unless they are chosen
CHOSEN = {"waveform_relevance": ("digit_epsilon_plus.png", "gender_epsilon_plus.png")}
UPPER_HALF = ("spectrogram_relevance",)  # of four rows that are alike two are shown, large enough to be read
WIDTH = 1200  # pixels of a picture, at most
BYTES = 60_000  # of a picture, at most: 16 of them stay under 1 MB
COLOURS = (256, 128, 64, 32)  # of a palette, tried in this order before the picture is made narrower


def small(path: Path, upper_half: bool = False, most: int | None = None) -> bytes:
    """The PNG with a palette, at most `WIDTH` wide and `most` (default: `BYTES`) long."""
    with Image.open(path) as file:
        picture = file.convert("RGB")
    if upper_half:
        picture = picture.crop((0, 0, picture.width, picture.height // 2))
    width = min(WIDTH, picture.width)
    while True:
        size = (width, round(picture.height * width / picture.width))
        resized = picture.resize(size, Image.Resampling.LANCZOS)
        for colours in COLOURS:
            blob = io.BytesIO()
            # a method that keeps the few pixels of a thin line coloured, and k-means so that grey stays grey
            flat = resized.quantize(colours, Image.Quantize.MAXCOVERAGE, kmeans=3, dither=Image.Dither.NONE)
            flat.save(blob, format="png", optimize=True)
            if blob.tell() <= (most or BYTES):
                return blob.getvalue()
        width = width * 9 // 10


def chosen(section: Section) -> list[str]:
    """The names of the pictures of an experiment that the page shows, as they are in its folder."""
    there = list(section.record["figures"])
    wanted = [name for name in CHOSEN.get(section.name, ()) if name in there]
    return (wanted or there)[:MOST]


def notebook_of(name: str) -> Path | None:
    """The notebook of an experiment, or None where there is none."""
    return next(iter((ROOT / "notebooks").glob(f"[0-9]*_{name}.ipynb")), None)


def question(notebook: Path) -> str:
    """What a notebook asks: the paragraph below its title."""
    first = json.loads(notebook.read_text(encoding="utf-8"))["cells"][0]
    return "".join(first["source"]).split("\n\n")[1]


def voices(data: Path, title: str) -> str:
    """Whose recordings they are, and how many, as a sentence; counts where the folder is still there."""
    if not title:
        title = "The demo's synthetic voices" if paper.is_demo(data) else "Recordings of another corpus"
        title = title if paper.other_corpus(data) else "AudioMNIST"
    counts = [f"{count:,} {what}" for what, count in describe(data).items()] if data.is_dir() else []
    return f"{title}{': ' if counts else ''}{', '.join(counts)}."


def kept_sections() -> dict[str, str]:
    """{experiment: its section} of the page as it is."""
    if not (ROOT / PAGE).exists():
        return {}
    sections = re.split(r"^(?=## )", (ROOT / PAGE).read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    return {
        re.findall(r"`audiomnist ([\w-]+)`$", text.strip())[0].replace("-", "_"): text.strip() + "\n"
        for text in sections
    }


def page(found: Sequence[Section], results: str, title: str, kept: Mapping[str, str] = MappingProxyType({})) -> str:
    """The page in Markdown. results: the folder, as the command names it; kept: sections of other experiments."""
    command = shlex.join(["python", "-m", "benchmarks.gallery", results, *(["--title", title] if title else [])])
    lines = [
        "# Gallery: what the notebooks draw",
        "",
        "Made from the outcomes of the study's experiments, with their own captions, by",
        "",
        f"```bash\n{command}\n```",
        "",
        f"**{voices(Path(found[0].record['setting']['data']), title)}** What the numbers are worth, with intervals: "
        "[results.md](results.md). To make these pictures from recordings of your own: [study.md](study.md). A single "
        "recording from sound to picture, without any training: "
        "[notebook 0](../notebooks/0_one_recording.ipynb).",
        "",
        "The picture that the [README](../README.md) begins with is one of `lrp ... --output seven.png`, taken over by "
        "`python -m benchmarks.gallery --first seven.png`.",
    ]
    sections = dict(kept) | {section.name: one_section(section) for section in found}
    return "\n".join([*lines, "", "\n".join(sections[name] for name in catalogue() if name in sections)])


def one_section(section: Section) -> str:
    """The part of the page about one experiment, in Markdown."""
    record, notebook = section.record, notebook_of(section.name)
    lines, links = [f"## {record['title']}", ""], "[results](results.md)"
    if notebook:
        lines += [question(notebook), ""]
        links = f"[notebook](../notebooks/{notebook.name}), {links}"
    for name in chosen(section):
        picture = f"{Path(PICTURES).relative_to('docs').as_posix()}/{section.name}_{name}"
        lines += [f"![{record['title']} ({Path(name).stem})]({picture})", "", record["figures"][name], ""]
    return "\n".join([*lines, f"{links}, `audiomnist {section.name.replace('_', '-')}`"]) + "\n"


@door("gallery")
def main(arguments: list[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gallery", description=__doc__.split("\n", 1)[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("results", type=Path, nargs="?", metavar="RESULTS", help="results folder of the study")
    what.add_argument("--first", type=Path, metavar="PICTURE", help=f"a PNG that becomes {FIRST}")
    parser.add_argument("--keep", action="store_true", help="keep the page's experiments that RESULTS lacks")
    parser.add_argument("--title", default="", metavar="TEXT", help="whose recordings they are, for the page's head")
    options = parser.parse_args(arguments)
    if options.first:
        write_file(ROOT / FIRST, small(options.first, most=FIRST_BYTES))
        return
    found = [section for section in results_page.sections(options.results) if section.record["figures"]]
    if not found:
        raise UserError(options.results, "an experiment's outcome with pictures at least", "none")
    folder = ROOT / PICTURES
    folder.mkdir(parents=True, exist_ok=True)
    made = {
        f"{section.name}_{name}": small(section.folder / name, section.name in UPPER_HALF)
        for section in found
        for name in chosen(section)
    }
    for name, blob in made.items():
        write_file(folder / name, blob)
    text = page(found, options.results.name, options.title, kept_sections() if options.keep else {})
    write_file(ROOT / PAGE, text)
    for earlier in folder.glob("*.png"):
        if f"/{earlier.name})" not in text:
            earlier.unlink()
    print(f"{PAGE}: {len(made)} pictures, {sum(map(len, made.values())) / 1000:.0f} kB")


if __name__ == "__main__":
    sys.exit(main())
