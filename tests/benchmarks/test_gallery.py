"""benchmarks/gallery.py: a results folder becomes a page and small pictures, with these links and no others."""

import json
import re
import shutil
from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import Image

from benchmarks import gallery
from tests.small_corpus import make_corpus

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"!?\[[^\]]*\]\(([^)]+)\)")


def outcome(folder, title, figures, data):
    """An experiment's folder: its record, and pictures of noise, which no palette makes small."""
    folder.mkdir(parents=True)
    record = {
        "title": title,
        "files": [],
        "made_from": {"version": "1", "code": "x"},
        "setting": {"data": str(data)},
        "conclusions": [],
    }
    record |= {"figures": figures, "findings": [], "unverified": [], "tables": [], "arrays": [], "sounds": {}}
    (folder / "outcome.json").write_text(json.dumps(record), encoding="utf-8")
    rng = np.random.default_rng(len(figures))
    for name in figures:
        Image.fromarray(rng.integers(0, 256, (30, 150, 3), np.uint8)).save(folder / name)


@pytest.fixture
def results(tmp_path, monkeypatch):
    """Outcomes of two experiments, one without pictures and one half-written, and a place for the page."""
    monkeypatch.setattr(gallery, "ROOT", tmp_path)
    monkeypatch.setattr(gallery, "BYTES", 3000)
    (tmp_path / "notebooks").mkdir()
    for number, name in ((2, "table1"), (4, "waveform_relevance")):
        shutil.copy(ROOT / f"notebooks/{number}_{name}.ipynb", tmp_path / "notebooks")
    data = make_corpus(tmp_path / "voices")
    folder = tmp_path / "some results"
    waves = [f"{task}_epsilon_plus{first}.png" for task in ("digit", "gender") for first in ("", "_flat")]
    outcome(folder / "waveform_relevance", "Waves", {name: f"Seen in {name}." for name in waves}, data)
    outcome(folder / "table1", "Accuracy", {"table1.png": "A dot for each speaker."}, data)
    outcome(folder / "corpus", "Corpus", {}, data)
    (folder / "sanity").mkdir()
    (folder / "sanity/outcome.json").write_text('{"files": []}', encoding="utf-8")
    return folder


def test_a_folder_that_grows_keeps_the_rest_of_the_page(results, tmp_path):
    path, title = tmp_path / "docs/gallery.md", ["--title", "Six made-up voices"]
    assert gallery.main([str(results), *title]) == 0
    page = path.read_text(encoding="utf-8")
    shutil.rmtree(results / "table1")
    outcome(results / "gender_hypothesis", "Genders", {"a.png": "Seen later."}, tmp_path / "voices")
    assert gallery.main([str(results), "--keep", *title]) == 0
    later = path.read_text(encoding="utf-8")
    assert re.findall(r"^#+ (.*)$", later, re.MULTILINE)[1:] == [
        "Accuracy",
        "Waves",
        "Genders",
    ]  # in the catalogue's order
    assert later.startswith(page)
    shown = {picture.name for picture in (tmp_path / "docs/pictures/gallery").iterdir()}
    assert {"table1_table1.png", "gender_hypothesis_a.png"} < shown
    assert gallery.main([str(results), *title]) == 0  # without --keep the page is the folder's
    assert re.findall(r"^## (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE) == ["Waves", "Genders"]


def test_a_results_folder_becomes_a_page_and_small_pictures(results, tmp_path, capsys):
    pictures = tmp_path / "docs/pictures/gallery"
    pictures.mkdir(parents=True)
    (pictures / "table1_earlier.png").write_bytes(b"")
    assert gallery.main([str(results), "--title", "Six made-up voices"]) == 0
    assert capsys.readouterr().out.startswith("docs/gallery.md: 3 pictures, ")
    page = (tmp_path / "docs/gallery.md").read_text(encoding="utf-8")
    assert LINK.findall(page) == [
        "results.md",
        "study.md",
        "../notebooks/0_one_recording.ipynb",
        "../README.md",
        "pictures/gallery/table1_table1.png",
        "../notebooks/2_table1.ipynb",
        "results.md",
        "pictures/gallery/waveform_relevance_digit_epsilon_plus.png",
        "pictures/gallery/waveform_relevance_gender_epsilon_plus.png",
        "../notebooks/4_waveform_relevance.ipynb",
        "results.md",
    ]
    assert re.findall(r"^#+ (.*)$", page, re.MULTILINE)[1:] == ["Accuracy", "Waves"]
    assert "Six made-up voices: 18 recordings, 6 speakers, 3 female speakers, 3 male speakers." in page
    assert "python -m benchmarks.gallery 'some results' --title 'Six made-up voices'\n" in page
    assert "\nA dot for each speaker.\n" in page and "\nSeen in gender_epsilon_plus.png.\n" in page
    assert "flat" not in page and str(tmp_path) not in page
    asked = nbformat.read(ROOT / "notebooks/2_table1.ipynb", as_version=4).cells[0].source.splitlines()[2]
    assert asked.startswith("How many recordings") and f"\n{asked}\n" in page
    made = sorted(pictures.iterdir())
    assert [f"pictures/gallery/{path.name}" for path in made] == sorted(set(re.findall(r"pictures/\S+png", page)))
    for path in made:
        assert 1500 < path.stat().st_size <= 3000
        with Image.open(path) as picture:
            assert picture.mode == "P" and picture.width / picture.height == pytest.approx(5, rel=0.05)
    before = {path.name: path.read_bytes() for path in made}
    assert gallery.main([str(results), "--title", "Six made-up voices"]) == 0
    assert {path.name: path.read_bytes() for path in pictures.iterdir()} == before
    assert (tmp_path / "docs/gallery.md").read_text(encoding="utf-8") == page


def test_recordings_without_a_title_are_named_by_what_they_are(results, tmp_path):
    assert gallery.voices(tmp_path / "voices", "").startswith("Recordings of another corpus: 18 recordings, ")
    assert gallery.voices(tmp_path / "gone", "") == "Recordings of another corpus."
    (tmp_path / "voices/demo_corpus.json").write_text("{}")
    assert gallery.voices(tmp_path / "voices", "").startswith("The demo's synthetic voices: 18 recordings, ")


def test_thin_lines_keep_their_colour_and_grey_stays_grey(tmp_path):
    values = np.full((100, 200, 3), 255, np.uint8)
    values[50, :] = (214, 39, 40)
    values[:, :70] = np.random.default_rng(0).integers(100, 255, (100, 70, 1), np.uint8)  # grey, as a spectrogram
    Image.fromarray(values).save(tmp_path / "line.png")
    (tmp_path / "small.png").write_bytes(gallery.small(tmp_path / "line.png"))
    with Image.open(tmp_path / "small.png") as made:
        found = np.asarray(made.convert("RGB")).astype(int)
    assert np.abs(found[50, 80:] - (214, 39, 40)).max() < 20
    grey = found[:48, :68]
    assert np.ptp(grey, axis=-1).max() < 8 and np.ptp(grey) > 100


def test_the_first_picture_of_the_readme(tmp_path, monkeypatch):
    monkeypatch.setattr(gallery, "ROOT", tmp_path)
    (tmp_path / "docs/pictures").mkdir(parents=True)
    shade = np.linspace(0, 255, 1040).round().astype(np.uint8)
    values = np.stack([np.full(1040, 255, np.uint8), shade, shade], axis=-1)[None].repeat(540, axis=0)  # white to red
    Image.fromarray(values).save(tmp_path / "drawn.png")
    assert gallery.main(["--first", str(tmp_path / "drawn.png")]) == 0
    (made,) = (tmp_path / "docs/pictures").iterdir()
    shown = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))[0]
    assert made == tmp_path / shown and made.stat().st_size < 150_000
    with Image.open(made) as picture:
        np.testing.assert_allclose(np.asarray(picture.convert("RGB")).astype(int), values, atol=3)


def test_a_folder_without_outcomes_is_one_sentence_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gallery, "ROOT", tmp_path)
    assert gallery.main([str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert said == f"gallery: {tmp_path}: expected an experiment's outcome with pictures at least, got none\n"
    assert not list(tmp_path.iterdir())


def test_the_committed_page_shows_all_its_pictures_and_is_small():
    page = (ROOT / "docs/gallery.md").read_text(encoding="utf-8")
    shown = set(re.findall(r"\(pictures/gallery/(\S+)\)", page))
    files = {path.name: path.stat().st_size for path in (ROOT / "docs/pictures/gallery").iterdir()}
    assert shown == set(files) and len(files) >= 9
    assert max(files.values()) <= 60_000 and sum(files.values()) < 1_000_000
    for name in re.findall(r"\[notebook\]\(\.\./notebooks/(\S+)\)", page):
        asked = nbformat.read(ROOT / "notebooks" / name, as_version=4).cells[0].source.split("\n\n")[1]
        assert asked in page, f"{name} asks otherwise by now: make the gallery again"
