"""A corpus of shuffled labels: the same recordings, as many of each digit and gender, and labels that say nothing."""

from audiomnist.corpus import permute_labels
from audiomnist.corpus.layout import scan
from audiomnist.corpus.metadata import META_NAME, read_metadata
from tests.small_corpus import make_corpus


def test_permuted_labels_keep_recordings_and_counts_and_forget_digits(tmp_path, capsys):
    source = make_corpus(tmp_path / "corpus", digits=range(4))
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert permute_labels.main([str(source), str(tmp_path / name), "--seed", str(seed)]) == 0
    recordings, _ = scan(source)
    made = {name: scan(tmp_path / name)[0] for name in "abc"}
    resolved = {n: {r.relative: str(r.path.resolve()) for r in own} for n, own in made.items()}
    assert resolved["a"] == resolved["b"] != resolved["c"]
    assert sorted(resolved["a"].values()) == sorted(str(r.path.resolve()) for r in recordings)
    assert sorted((r.speaker, r.digit) for r in made["a"]) == sorted((r.speaker, r.digit) for r in recordings)
    assert any(r.path.resolve().name != r.name for r in made["a"])
    assert all(r.path.resolve().parent.name == r.speaker for r in made["a"])
    before, after = (read_metadata(folder / META_NAME) for folder in (source, tmp_path / "c"))
    genders = [[entry["gender"] for entry in meta.values()] for meta in (before, after)]
    assert sorted(genders[0]) == sorted(genders[1]) and genders[0] != genders[1]
    assert (tmp_path / "a" / "splits.json").read_bytes() == (source / "splits.json").read_bytes()
    capsys.readouterr()
    assert permute_labels.main([str(source), str(tmp_path / "a")]) == 1
    assert capsys.readouterr().err.endswith("a: expected a folder that is not there yet, got one that is\n")
    assert permute_labels.main([str(tmp_path / "nothing"), str(tmp_path / "d")]) == 1
