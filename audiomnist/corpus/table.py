"""The corpus as a table, and as a picture.

audiomnist corpus-table DIR --figure corpus.png [--csv corpus.csv]
"""

from __future__ import annotations

import argparse
import io
import re
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from audiomnist.arguments import command_parser
from audiomnist.corpus.attributes import age_of, spellings
from audiomnist.corpus.corrections import (
    NONE,
    Corrections,
    add_corpus_options,
    chosen_corrections,
    correct_metadata,
    spoken_digits,
)
from audiomnist.corpus.layout import GRAMMAR, CorpusError, scan
from audiomnist.corpus.metadata import GENDERS, META_NAME, gender_of, read_metadata
from audiomnist.door import door
from audiomnist.signal.wav import RecordingError, read_wav
from caffe_proto.atomic import write_file

DATE = "%y-%m-%d-%H-%M-%S"  # of recordings in the metadata


def _tidy(meta: Mapping[str, Mapping], key: str) -> dict[str, str | None]:
    """The values of an attribute by speaker, white space and variants of spelling (the most frequent wins) removed."""
    texts = {speaker: str(entry[key]) for speaker, entry in meta.items() if entry.get(key)}
    values = {speaker: re.sub(r"\s+", " ", text).strip() for speaker, text in texts.items()}
    frequent = {}
    for group in spellings(sorted(set(values.values()))):
        best = max(group, key=lambda spelling: sum(value == spelling for value in values.values()))
        frequent |= dict.fromkeys(group, best)
    return {speaker: frequent.get(value, value) for speaker, value in values.items()}


def speaker_table(meta: Mapping[str, Mapping]) -> pd.DataFrame:
    """The metadata in proper types, a row for each speaker (the index): gender and accent, origin, room (text),
    age (whole years), native_speaker (boolean), date (timestamp). What is missing or impossible is NA.
    """
    accent, origin, room = (_tidy(meta, key) for key in ("accent", "origin", "recordingroom"))
    native = {"yes": True, "no": False}
    rows = []
    for speaker, entry in meta.items():
        gender = gender_of(entry)
        rows.append({
            "speaker": speaker,
            "gender": None if gender is None else GENDERS[gender],
            "age": age_of(entry),
            "accent": accent.get(speaker),
            "native_speaker": native.get(str(entry.get("native speaker", "")).strip().casefold()),
            "origin": origin.get(speaker),
            "room": room.get(speaker),
            "date": pd.to_datetime(entry.get("recordingdate"), format=DATE, errors="coerce"),
        })  # fmt: skip
    types = {"gender": "string", "age": "Int64", "accent": "string", "native_speaker": "boolean"}
    types |= {"origin": "string", "room": "string", "date": "datetime64[s]"}
    return pd.DataFrame(rows, columns=["speaker", *types]).astype(types).set_index("speaker")


def _sound(path: Path) -> tuple[float | None, int | None]:
    """Seconds and sample rate (Hz) of a recording; None where it cannot be read."""
    try:
        samples, rate = read_wav(path)
    except (RecordingError, OSError):
        return None, None
    return len(samples) / rate, rate


def corpus_table(corpus: Path, meta_path: Path | None = None, corrections: Corrections = NONE) -> pd.DataFrame:
    """The recordings of a corpus with the attributes of their speakers, a row for each recording.

    Columns: path (text, relative to the corpus), speaker, digit, repetition (whole numbers), seconds and rate (Hz;
    NA where the file cannot be read), and those of `speaker_table`. Recordings of speakers without metadata have NA
    there. Raises CorpusError when the corpus or its metadata cannot be read.
    """
    recordings, _ = scan(corpus)
    meta, _ = correct_metadata(read_metadata(meta_path or Path(corpus) / META_NAME), corrections)
    digits, _ = spoken_digits(recordings, meta, corrections)
    rows = [(r.relative, r.speaker, digits[r], r.repetition, *_sound(r.path)) for r in recordings]
    table = pd.DataFrame(rows, columns=["path", "speaker", "digit", "repetition", "seconds", "rate"])
    types = {"path": "string", "speaker": "string", "digit": "int64", "repetition": "int64", "seconds": "Float64"}
    types["rate"] = "Int64"
    speakers = speaker_table(meta).reset_index().astype({"speaker": "string"})
    return table.astype(types).merge(speakers, on="speaker", how="left", validate="many_to_one")


def draw_corpus(table: pd.DataFrame):
    """A matplotlib Figure of a corpus table: durations by digit and by speaker, genders, ages."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 7), layout="constrained")
    (by_digit, genders), (by_speaker, ages) = figure.subplots(2, 2, width_ratios=(3, 1))
    heard = table.dropna(subset=["seconds"]).astype({"seconds": float})
    for axes, key in ((by_digit, "digit"), (by_speaker, "speaker")):
        groups = heard.groupby(key)["seconds"]
        names = [str(name).replace("$", r"\$") for name in groups.groups]  # no formulas
        axes.boxplot([group.to_numpy() for _, group in groups], tick_labels=names, showfliers=False, widths=0.7)
        axes.set(xlabel=key, ylabel="duration (s)", ylim=(0, None))
    step = max(1, len(by_speaker.get_xticklabels()) // 30)
    for i, label in enumerate(by_speaker.get_xticklabels()):
        label.set(visible=i % step == 0, rotation=90)
    speakers = table.drop_duplicates("speaker")
    counts = speakers["gender"].fillna("unknown").value_counts()
    bars = genders.bar(list(counts.index), counts.to_numpy(), color="tab:grey")
    genders.bar_label(bars)
    genders.set(ylabel="speakers", title="gender")
    genders.margins(y=0.1)
    known = speakers["age"].dropna().astype(int)
    if len(known):
        ages.hist(known, bins=range(known.min() // 5 * 5, known.max() + 6, 5), color="tab:grey")
    ages.set(xlabel="years", ylabel="speakers", title=f"age ({len(speakers) - len(known)} unknown)")
    hours = heard["seconds"].sum() / 3600
    figure.suptitle(f"{len(table)} recordings, {len(speakers)} speakers, {hours:.2f} h")
    return figure


def parser() -> argparse.ArgumentParser:
    """The options."""
    p = command_parser(
        "audiomnist corpus-table",
        "A corpus as a table (CSV) and as a picture (PNG).",
        "audiomnist corpus-table demo/data --figure corpus.png",
        "audiomnist corpus-table data --corrections --csv corpus.csv",
    )
    add_corpus_options(p)
    p.add_argument("--figure", type=Path, metavar="FILE", help="PNG to draw")
    p.add_argument("--csv", type=Path, metavar="FILE", help="CSV to write")
    return p


@door("corpus-table")
def main(arguments: list[str] | None = None) -> int:
    p = parser()
    options = p.parse_args(arguments)
    if not (options.figure or options.csv):
        p.error("expected --figure, --csv or both, got neither")
    table = corpus_table(options.corpus, options.meta, chosen_corrections(options))
    if table.empty:
        raise CorpusError(options.corpus, f"recordings {GRAMMAR}", "none")
    if options.csv:
        write_file(options.csv, table.to_csv(index=False).encode())
        print(options.csv)
    if options.figure:
        blob = io.BytesIO()
        draw_corpus(table).savefig(blob, format="png", dpi=120)
        write_file(options.figure, blob.getvalue())
        print(options.figure)
    return 0
