"""The journal alone: what it says after a crash, and that it lets go of its file."""

from types import SimpleNamespace

import pytest

from audiomnist.preprocessing import journal
from audiomnist.preprocessing.journal import Journal


def test_it_is_closed_when_its_block_ends_however_it_ends(tmp_path):
    with Journal(tmp_path / "journal") as whole:
        assert not whole.file.closed
    with pytest.raises(ZeroDivisionError), Journal(tmp_path / "journal") as broken:
        broken.record(SimpleNamespace(relative="01/0_01_0.wav"), "a digest")
        1 / 0  # noqa: B018
    assert whole.file.closed and broken.file.closed
    assert Journal(tmp_path / "journal").fingerprints == {"01/0_01_0.wav": "a digest"}


def test_every_line_is_in_the_file_at_once(tmp_path):
    """A process that is killed loses no recording that it has done."""
    with Journal(tmp_path / "journal") as writing:
        writing.record(SimpleNamespace(relative="01/0_01_0.wav"), "a digest")
        assert Journal(tmp_path / "journal").fingerprints == {"01/0_01_0.wav": "a digest"}


def test_lines_of_another_boot_count_up_to_the_last_flush(tmp_path, monkeypatch):
    """What was written after it may not have reached the disk before the power failed, even if its line did."""
    path, later = tmp_path / "journal", {"c": "3"}
    with Journal(path) as before:
        for name, digest in {"a": "1", "b": "2"}.items():
            before.record(SimpleNamespace(relative=name), digest)
        before.flush()
        before.record(SimpleNamespace(relative="c"), "3")
    path.write_text(path.read_text() + "d\t4")  # torn
    assert Journal(path).fingerprints == {"a": "1", "b": "2"} | later
    monkeypatch.setattr(journal, "boot", lambda: "another boot")
    assert Journal(path).fingerprints == {"a": "1", "b": "2"}
