"""The recorder without screen and sound card: order, log, resumption, questions, keys, pictures, terminal."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audiomnist.recording import cut, record, session
from audiomnist.recording.picture import Bar, Text, picture
from audiomnist.recording.plan import example_series, missing_prompts, next_series, shuffled_prompts
from audiomnist.recording.prompter import LEAD, TAIL, Prompter, Timing, View, loudness
from audiomnist.recording.questions import AnswerError, check_answers, questions, taken_aliases
from audiomnist.recording.session import Session, SessionError, all_sessions, find_session
from audiomnist.recording.sound import Capture, Device, SoundError, choose_device
from audiomnist.recording.terminal import Painter, _Keyboard, run_terminal
from audiomnist.signal.wav import read_wav, wav_bytes
from caffe_proto import atomic

ROOT = Path(__file__).resolve().parents[3]
ANSWERS = {"alias": "Zoe", "age": "33", "gender": "f", "accent": "German", "native speaker": "n",
           "origin": "Europe, Germany,  Köln", "recordingroom": "office"}  # fmt: skip
UNDERSTOOD = {"alias": "zoe", "age": 33, "gender": "female", "accent": "German", "native speaker": "no",
              "origin": "Europe, Germany, Köln", "recordingroom": "office"}  # fmt: skip


class FakeRoom:
    """A microphone whose time the test turns: hears a tone, or what it is told to go wrong with."""

    name, dry, playing = "test room", False, False

    def __init__(self):
        self.now, self.begun, self.gaps, self.gone, self.amplitude, self.played = 0.0, None, 0, False, 8000, []

    def _check(self):
        if self.gone:
            raise SoundError("test room", "a microphone that is plugged in", "one that has vanished")

    def time(self):
        return self.now

    def begin(self):
        self._check()
        self.begun, self.listens = self.now, True

    def seconds(self):
        self._check()
        return self.now - self.begun

    def end(self):
        self.listens = False
        samples = np.sin(np.arange(round((self.now - self.begun) * 48000)) / 20) * self.amplitude
        return Capture(samples.astype(np.int16), self.gaps)

    def level(self):
        self._check()
        return -12.0

    def play(self, samples):
        self.played.append(len(samples))

    def stop_playing(self):
        pass

    def reopen(self):
        self._check()

    def close(self):
        pass


def run(prompter, room, seconds=0.0, *keys, step=0.04):
    """Let time pass, then press keys; returns the last view."""
    end = room.now + seconds
    while room.now < end - 1e-9:
        room.now += step
        prompter.send(None)
    for key in keys:
        prompter.send(key)
    return prompter.view


def until(prompter, room, stage, limit=60.0):
    end = room.now + limit
    while prompter.view.stage != stage and room.now < end:
        run(prompter, room, 0.04)
    assert prompter.view.stage == stage, prompter.view
    return prompter.view


def answer(prompter, answers=ANSWERS):
    for text in answers.values():
        for key in [*text, "enter"]:
            prompter.send(key)


# ---- order


@given(st.integers(1, 60), st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_order_covers_every_digit_as_often_as_wanted(repetitions, seed):
    prompts = shuffled_prompts(repetitions, seed)
    assert Counter(prompts) == Counter((d, r) for d in range(10) for r in range(repetitions))
    assert prompts == shuffled_prompts(repetitions, seed)


def test_orders_of_seeds_differ_and_series_are_not_ten_different_digits():
    orders = [tuple(shuffled_prompts(50, seed)) for seed in range(20)]
    assert len(set(orders)) == 20
    different = [len({d for d, _ in order[k : k + 10]}) for order in orders for k in range(0, 500, 10)]
    assert 5.5 < np.mean(different) < 7.5  # ten draws from ten digits: 6.5 of them are different


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_rejected_prompts_come_last_and_nothing_is_lost(data):
    prompts = shuffled_prompts(3, 0)
    taken = data.draw(st.sets(st.sampled_from(prompts)))
    back = data.draw(st.lists(st.sampled_from(prompts), max_size=12))
    missing = missing_prompts(prompts, taken, back)
    assert set(missing) == set(prompts) - taken and len(missing) == len(set(missing))
    returned = [p for p in missing if p in back]
    assert missing == [p for p in prompts if p in missing and p not in back] + returned
    assert [back[::-1].index(p) for p in returned] == sorted((back[::-1].index(p) for p in returned), reverse=True)
    assert next_series(missing) == tuple(missing[:10])


# ---- the log


def test_a_session_is_what_its_log_says(tmp_path):
    made = Session.create(tmp_path, 2, seed=5)
    assert made.folder.stat().st_mode & 0o777 == 0o700
    first = next_series(made.missing)
    assert made.progress == 0
    take = made.add_take(np.arange(480, dtype=np.int16), first, np.arange(10) + 0.5, device="x")
    assert made.progress == 0.5
    second = next_series(made.missing)
    made.reject(second, None, "key")
    said = {key: made.events[-1][key] for key in ("event", "take", "prompts", "reason")}
    assert said == {"event": "reject", "take": None, "prompts": list(map(list, second)), "reason": "key"}
    assert made.missing[-10:] == list(second)
    made.lose(take.number, [first[3]], "nothing heard")
    made.lose(take.number, [first[3]], "again")
    made.add("speaker", metadata=UNDERSTOOD)
    again = Session.load(made.folder)
    assert again.events == made.events and sum(e["event"] == "lost" for e in again.events) == 1
    assert again.progress == pytest.approx(0.45)  # 9 of 20
    assert again.missing == made.missing and first[3] == again.missing[-1] and len(again.missing) == 11
    assert again.speaker == UNDERSTOOD and not again.finished and again.open
    samples, rate = read_wav(again.takes[0].path)
    assert rate == 48000 and np.array_equal(samples, np.arange(480)) and again.takes[0].onsets[2] == 2.5
    again.reject(first, take.number, "key")
    assert again.takes == [] and len(again.missing) == 20
    assert take.path.exists()  # what was recorded stays


def test_a_torn_line_counts_for_nothing_and_the_next_one_does(tmp_path):
    made = Session.create(tmp_path, 1, seed=0)
    made.add("consent", text="x")
    with open(made.folder / "session.jsonl", "a") as file:
        file.write('{"event": "take", "take": 1, "ser')
    torn = Session.load(made.folder)
    assert len(torn.events) == 2
    torn.add("speaker", metadata=UNDERSTOOD)
    assert [e["event"] for e in Session.load(made.folder).events] == ["session", "consent", "speaker"]


def test_a_file_without_an_event_is_never_written_over(tmp_path):
    made = Session.create(tmp_path, 1, seed=0)
    orphan = made.folder / "takes" / "0001.wav"
    orphan.write_bytes(b"of a take that a crash cost")
    take = made.add_take(np.zeros(10, np.int16), made.missing[:10], range(10))
    assert take.path.name == "0002.wav" and orphan.read_bytes() == b"of a take that a crash cost"


def test_a_full_disk_keeps_the_log_whole(tmp_path, monkeypatch):
    made = Session.create(tmp_path, 1, seed=0)
    before = (made.folder / "session.jsonl").read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(session.os, "fsync", full)
    with pytest.raises(atomic.WriteError, match="a full disk"):
        made.add("consent", text="x")
    with pytest.raises(atomic.WriteError, match="a full disk"):
        made.add_take(np.zeros(10, np.int16), made.missing, range(10))
    monkeypatch.undo()
    assert (made.folder / "session.jsonl").read_bytes() == before
    assert list((made.folder / "takes").iterdir()) == [] and made.takes == []
    assert made.add_take(np.zeros(10, np.int16), made.missing, range(10)).number == 1


def test_sessions_are_found_by_name_and_alias_and_locked(tmp_path):
    a = Session.create(tmp_path, 1, seed=0)
    b = Session.create(tmp_path, 1, seed=0)
    assert a.folder != b.folder
    a.add("speaker", metadata=UNDERSTOOD)
    assert find_session(tmp_path, "zoe", unfinished=False).folder == a.folder
    assert find_session(tmp_path, None, unfinished=True).folder == max(a.folder, b.folder)
    with pytest.raises(SessionError, match="expected session or speaker 'max', got .*zoe"):
        find_session(tmp_path, "max", unfinished=False)
    with pytest.raises(SessionError, match=f"{a.folder}: expected a session that no other process uses"):
        Session.load(a.folder).acquire()
    a.release()
    Session.load(a.folder).acquire()
    with pytest.raises(SessionError, match="expected at least the 1 repetitions planned, got 0"):
        a.extend(0)


def test_the_example_series_has_each_digit_once_in_an_order_of_its_own():
    orders = [example_series(seed) for seed in range(20)]
    assert all(sorted(order) == [(digit, 0) for digit in range(10)] for order in orders)
    assert len(set(orders)) == 20 and orders[3] == example_series(3)


def test_a_session_that_goes_on_may_get_more_repetitions(tmp_path):
    parser = record.parser()
    begun = record.open_session(parser.parse_args(["--recordings", str(tmp_path), "--repetitions", "1"]))
    assert len(begun.missing) == 10
    begun.release()
    again = record.open_session(parser.parse_args(["--recordings", str(tmp_path), "--continue", "--repetitions", "3"]))
    assert again.folder == begun.folder and len(again.missing) == 30
    again.release()
    same = record.open_session(parser.parse_args(["--recordings", str(tmp_path), "--continue"]))
    assert len(same.missing) == 30


def test_a_lock_that_is_a_link_leaves_its_target_as_it_is(tmp_path):
    made, own = Session.create(tmp_path, 1, seed=0), tmp_path / "own.txt"
    made.release()
    own.write_text("precious")
    (made.folder / ".lock").unlink()
    (made.folder / ".lock").symlink_to(own)
    Session.load(made.folder).acquire()
    assert own.read_text() == "precious"


# ---- questions


def test_answers_get_sensible_types():
    assert check_answers(ANSWERS, {"max"}) == UNDERSTOOD


@pytest.mark.parametrize(
    "key, text",
    [("alias", "zoë"), ("alias", "a b"), ("alias", "a_b"), ("alias", ""), ("alias", "MAX"), ("alias", "../x"),
     ("alias", "-x"), ("alias", "x" * 33), ("age", "1234"), ("age", "2"), ("age", "-30"), ("age", "thirty"),
     ("age", "３３"), ("gender", ""), ("gender", "x"), ("native speaker", "perhaps"), ("accent", "  "),
     ("origin", "x" * 101), ("recordingroom", "a\x00b")],
)  # fmt: skip
def test_answers_that_cannot_be_taken(key, text):
    with pytest.raises(AnswerError, match=f"^{key}: expected "):
        check_answers({**ANSWERS, key: text}, {"max"})


def test_aliases_of_folders_metadata_and_other_sessions_are_taken(tmp_path):
    (tmp_path / "01").mkdir()
    (tmp_path / "audioMNIST_meta.txt").write_text('{"02": {}}')
    assert taken_aliases(tmp_path, [{"alias": "zoe"}, None]) == {"01", "02", "zoe"}


# ---- the course


def test_a_whole_session(tmp_path):
    room, made, shown = FakeRoom(), Session.create(tmp_path, 2, seed=3), []
    prompter = Prompter(made, room, lambda: {"max"}, on_prompt=shown.append)
    assert prompter.view.stage == "consent" and "Voices can be recognised" in prompter.view.text
    run(prompter, room, 1, "x", "enter")  # only Y or N will do
    assert prompter.view.stage == "consent" and made.consent is None
    assert run(prompter, room, 0, "y").stage == "level" and made.consent["given"]
    assert run(prompter, room, 0.1).level == pytest.approx(-12)
    assert room.listens
    assert run(prompter, room, 0, "enter").stage == "test" and not room.listens
    run(prompter, room, 0, "enter")
    view = run(prompter, room, LEAD + 10 + TAIL + 0.2)
    assert "good" in view.text and made.takes == [] and sorted(d for d, _ in shown) == list(range(10))
    run(prompter, room, 0, "p")
    assert len(room.played) == 1
    shown.clear()
    run(prompter, room, 0.1, "enter")
    until(prompter, room, "series")
    began = room.now
    assert prompter.view.active is None
    run(prompter, room, LEAD + 0.1)
    assert prompter.view.active == 0 and shown == [made.missing[0]]
    run(prompter, room, 0.8)
    assert prompter.view.active == 0  # each digit is there for one second
    run(prompter, room, 0.2)
    assert prompter.view.active == 1
    until(prompter, room, "pause")
    assert room.now - began == pytest.approx(LEAD + 10 + TAIL, abs=0.1)
    assert made.takes[0].series == tuple(shown) == tuple(shuffled_prompts(2, 3)[:10])
    assert np.allclose(made.takes[0].onsets, LEAD + np.arange(10), atol=0.05)
    assert Session.load(made.folder).takes == made.takes  # on the disk before the next begins
    until(prompter, room, "series")
    until(prompter, room, "pause")
    assert prompter.view.heading == "That was the last one" and not made.missing
    until(prompter, room, "question")
    answer(prompter)
    assert "age: 33" in prompter.view.text
    prompter.send("enter")
    assert prompter.view.stage == "end"
    prompter.send("enter")
    assert prompter.outcome == "done" and made.finished
    assert made.speaker == {**UNDERSTOOD, "recordingdate": made.date}
    samples, _ = read_wav(made.takes[0].path)
    assert len(samples) == pytest.approx(48000 * (LEAD + 10 + TAIL), rel=0.01)


@pytest.fixture
def started(tmp_path):
    """A room, a session of 30 prompts without rehearsal, and its prompter in the first series."""
    room, made = FakeRoom(), Session.create(tmp_path, 3, seed=1)
    made.add("consent", text="x")
    prompter = Prompter(made, room, rehearse=False)
    until(prompter, room, "series")
    return room, made, prompter


def test_keys_reject_the_current_and_the_previous_series(started):
    room, made, prompter = started
    first = next_series(made.missing)
    run(prompter, room, 3, "enter")
    assert made.takes == [] and made.missing[-10:] == list(first) and "rejected" in prompter.notice
    run(prompter, room, 0.1, "enter", "x")  # nothing more to reject
    assert sum(e["event"] == "reject" for e in made.events) == 1
    until(prompter, room, "series")
    until(prompter, room, "pause")
    second = made.takes[0].series
    until(prompter, room, "series")
    run(prompter, room, 2, "x")  # the one before, while this one goes on
    assert made.takes == [] and made.missing[-10:] == list(second) and prompter.view.stage == "series"
    until(prompter, room, "pause")
    assert len(made.takes) == 1 and made.takes[0].series not in (first, second)
    run(prompter, room, 0.1, "x")
    assert made.takes == [] and len(made.missing) == 30
    while made.missing:
        run(prompter, room, 0.2)
    assert Counter(p for t in made.takes for p in t.series) == Counter(made.prompts)


def test_pause_after_the_series_and_playback(started):
    room, made, prompter = started
    run(prompter, room, 2, " ")
    assert prompter.view.stage == "series" and "pause follows" in prompter.view.progress_text
    until(prompter, room, "paused")
    run(prompter, room, 30)
    assert prompter.view.stage == "paused" and len(made.takes) == 1
    run(prompter, room, 0, "p")
    run(prompter, room, 0.1)
    assert room.played == [pytest.approx(48000 * 11.3, rel=0.01)]
    run(prompter, room, 0, " ")
    run(prompter, room, 0.5)
    assert prompter.view.stage == "pause" and 0.3 < prompter.view.pause < 0.7
    until(prompter, room, "series", 1)


def test_a_vanished_microphone_costs_the_take_in_progress(started):
    room, made, prompter = started
    until(prompter, room, "pause")
    until(prompter, room, "series")
    series = next_series(made.missing)
    run(prompter, room, 3)
    room.gone = True
    view = run(prompter, room, 0.04)
    assert view.stage == "trouble" and "vanished" in view.notice and len(made.takes) == 1
    assert run(prompter, room, 1, "enter").stage == "trouble"
    room.gone = False
    run(prompter, room, 0, "enter")
    until(prompter, room, "paused")
    assert made.missing[-10:] == list(series)
    run(prompter, room, 0, " ")
    while made.missing:
        run(prompter, room, 0.2)


def test_lost_samples_and_silence_repeat_the_series(started):
    room, made, prompter = started
    room.gaps = 1
    until(prompter, room, "pause")
    assert made.takes == [] and "lost samples" in prompter.view.notice
    room.gaps, room.amplitude = 0, 0
    until(prompter, room, "series")
    until(prompter, room, "paused")
    assert made.takes == [] and "muted" in prompter.view.notice


def test_a_digit_that_was_not_shown_repeats_the_series(started):
    room, made, prompter = started
    run(prompter, room, 2)
    room.now += 2.5
    run(prompter, room, 0.04)
    assert prompter.view.stage == "pause" and "too slow" in prompter.view.notice and made.takes == []


def test_a_full_disk_is_told_and_the_take_is_kept_when_there_is_room(started, monkeypatch):
    room, made, prompter = started

    def full(*_):
        raise atomic.WriteError("takes", "free space", "a full disk")

    monkeypatch.setattr(session, "write_file", full)
    view = until(prompter, room, "trouble")
    assert "a full disk" in view.notice and made.takes == []
    monkeypatch.undo()
    run(prompter, room, 0, "enter")
    assert len(made.takes) == 1 and prompter.view.stage == "pause"


def test_an_answer_that_cannot_be_taken_is_told_and_asked_again(tmp_path):
    prompter = Prompter(Session.create(tmp_path, 1, seed=1), FakeRoom(), lambda: {"zoe"}, rehearse=False)
    (alias,) = (question for question in questions({"zoe"}) if question.key == "alias")
    asking = prompter._ask("About you", alias.text, alias.understand)
    views = [next(asking), *(asking.send(key) for key in (*"zoe", "enter", "backspace", "a"))]
    assert [view.entry for view in views] == ["", "z", "zo", "zoe", "zoe", "zo", "zoa"]
    assert [bool(view.notice) for view in views[:5]] == [False] * 4 + [True] and "zoe" in views[4].notice
    with pytest.raises(StopIteration) as ended:
        asking.send("enter")
    assert ended.value.value == "zoa"


def test_escape_stops_everywhere_and_declining_is_no_session(started, tmp_path):
    room, made, prompter = started
    run(prompter, room, 2, "escape")
    assert prompter.outcome == "stopped" and made.takes == []
    other = Session.create(tmp_path, 1, seed=0)
    declined = Prompter(other, room)
    declined.send("n")
    assert declined.outcome == "declined" and not other.open and other.takes == []


@pytest.mark.parametrize("stop_after", [0.5, 5.0, 11.4, 12.0, 20.0])
def test_resumed_sessions_ask_exactly_what_is_missing(tmp_path, stop_after):
    room, made = FakeRoom(), Session.create(tmp_path, 2, seed=4)
    made.add("consent", text="x")
    run(Prompter(made, room, rehearse=False), room, stop_after)
    done = {p for take in made.takes for p in take.series}
    again = Session.load(made.folder)
    shown = []
    prompter = Prompter(again, room, rehearse=False, on_prompt=shown.append)
    until(prompter, room, "question", 100)
    assert sorted(shown) == sorted(set(made.prompts) - done) and set(again.prompts) == set(shown) | done


def test_loudness_counts_only_runs_at_the_end_of_the_scale():
    x = np.array([32767, 0, 32767, 32767, 32767, 5, -32768, -32768, -32768, -32768, 100, 100, 100], np.int16)
    assert loudness(x).clipped == 7 and loudness(x).peak == pytest.approx(0)
    assert loudness(np.full(100, 16384, np.int16)).peak == pytest.approx(-6.02, abs=0.01)
    assert loudness(np.zeros(10, np.int16)).advice.startswith("nothing was heard")


# ---- devices


def test_devices_are_chosen_by_index_and_pattern():
    devices = [Device(0, "HDA Intel", 2, 44100, True), Device(3, "RODE NT-USB: Audio", 1, 48000, False)]
    assert choose_device(devices, None).index == 0
    for wanted in ("3", "RODE*", "rode nt", "*usb*"):
        assert choose_device(devices, wanted).index == 3
    with pytest.raises(SoundError, match="3 RODE NT-USB.*'yeti'"):
        choose_device(devices, "yeti")
    with pytest.raises(SoundError, match="no device"):
        choose_device([], None)


def test_everything_imports_without_portaudio_and_tk(tmp_path):
    """The sound card and the window are missed only by who asks for them, in one line."""
    code = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("tkinter", "_tkinter"):
            raise ImportError(f"No module named {name}")
        if name == "sounddevice":
            raise OSError("PortAudio library not found")
sys.meta_path.insert(0, Missing())
from audiomnist.recording import cut, picture, plan, prompter, questions, record, recognise, review, session, sound
from audiomnist.recording import terminal, utterances, window
assert "matplotlib.pyplot" not in sys.modules and "sounddevice" not in sys.modules
sys.exit(record.main(["--list-devices"]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1, done.stderr
    assert "apt install libportaudio2" in done.stderr and done.stderr.count("\n") == 1


# ---- pictures and terminal


def test_pictures_fit_and_show_the_active_digit():
    view = View("series", digits=tuple(range(10)), active=4, progress=0.25, progress_text="x", pause=0.5, notice="n")
    parts = picture(view)
    texts = [part for part in parts if isinstance(part, Text)]
    active = [part for part in texts if part.bold]
    assert [part.text for part in active] == ["4"] and active[0].size > max(p.size for p in texts if not p.bold)
    assert [round(b.filled, 2) for b in parts if isinstance(b, Bar)] == [0.25, 0.5]
    assert all(0 < part.y < 1 and (isinstance(part, Bar) or 0 < part.x < 1) for part in parts)
    shown = " ".join(t.text for t in picture(View("consent", "a", "long " * 100, "Y")))
    assert shown.split() == ["a", *["long"] * 100, "Y"]


@pytest.mark.parametrize("stage, digits", [("consent", ()), ("level", ()), ("series", (3, 1)), ("trouble", ())])
def test_parts_of_a_picture_lie_apart_and_the_heading_comes_first(stage, digits):
    """By the height that their text takes; with digits they are what one looks at, above them only the progress."""
    words = {"text": "a text\nof two lines", "keys": "keys", "progress_text": "1 of 4", "notice": "wrong"}
    parts = picture(View(stage, "Heading", digits=digits, progress=0.5, **words))
    assert {"Heading", *words.values()} <= {part.text for part in parts if isinstance(part, Text)}
    rows = []
    for part in parts:
        height = part.height if isinstance(part, Bar) else part.size * (1 + part.text.count("\n"))
        digit = isinstance(part, Text) and part.y == 0.5
        rows.append((part.y - height / 2, part.y + height / 2, "digits" if digit else part))
    rows = sorted({(low, high) if name != "digits" else (0.46, 0.54) for low, high, name in rows})
    assert all(upper[1] <= lower[0] for upper, lower in zip(rows, rows[1:], strict=False))
    heading = next(part for part in parts if isinstance(part, Text) and part.text == "Heading")
    above = [part for part in parts if part.y < heading.y]
    assert above == ([] if not digits else [p for p in parts if p in (parts[1], parts[2])])


@pytest.mark.parametrize(
    "view, waits",
    [
        (View("consent", "a"), True),
        (View("paused", "a"), True),
        (View("trouble", "a"), True),
        (View("question", "a", entry="x"), True),
        (View("end", "a"), True),
        (View("pause", pause=0.5), False),
        (View("series", digits=(1, 2)), False),
        (View("test", "a"), True),
        (View("test", "a", progress=0.0), True),
        (View("test", "a", progress=0.5), False),
    ],
)
def test_which_views_wait_for_a_key(view, waits):
    """Where the input has ended, these are where a session in a terminal ends."""
    painter = Painter(io.StringIO())
    painter.draw(view)
    assert bool(painter.waits) is waits


@pytest.mark.parametrize(
    "terminal, no_colour, colours, clears", [(True, "", 1, 1), (True, "1", 0, 1), (False, "", 0, 0)]
)
def test_colours_are_for_terminals_and_for_who_wants_them(terminal, no_colour, colours, clears, monkeypatch):
    monkeypatch.setenv("NO_COLOR", no_colour)
    out = io.StringIO()
    out.isatty = lambda: terminal
    Painter(out).draw(View("series", digits=(3, 7), active=1))
    assert ("\x1b[1;32m>7<\x1b[0m" in out.getvalue()) == colours and ">7<" in out.getvalue()
    assert ("\r\x1b[K" in out.getvalue()) == clears


def test_lines_are_as_long_as_the_terminal_is_wide_but_for_its_last_column(monkeypatch):
    monkeypatch.setattr(shutil, "get_terminal_size", lambda: os.terminal_size((30, 20)))
    painter = Painter(io.StringIO())
    assert painter._wrap("x" * 14 + " " + "y" * 14) == "x" * 14 + " " + "y" * 14
    assert painter._wrap("x" * 14 + " " + "y" * 15) == "x" * 14 + "\n" + "y" * 15


def test_the_terminal_stops_where_its_input_ends():
    read, write = os.pipe()
    os.write(write, b"y")
    os.close(write)
    made = Session(None)
    made.add("session", repetitions=1, seed=0, date="x")
    prompter = Prompter(made, FakeRoom(), timing=Timing())
    out = io.StringIO()
    with os.fdopen(read) as source:
        run_terminal(prompter, source, out)
    assert prompter.outcome == "stopped" and "Level" in out.getvalue() and made.consent


def test_keys_of_a_pipe_come_as_they_are_written_until_it_ends():
    read, write = os.pipe()
    with os.fdopen(read) as source:
        keyboard = _Keyboard(source)
        for written, wanted in ((b"ab", ["a", "b"]), (b"", []), (b"c\r", ["c", "enter"])):
            os.write(write, written)
            assert keyboard.pressed() == wanted and not keyboard.ended
        os.write(write, "ü".encode()[:1])
        assert keyboard.pressed() == []
        os.write(write, "ü".encode()[1:])
        assert keyboard.pressed() == ["ü"]
        os.close(write)
        assert keyboard.pressed() == [] and keyboard.ended and keyboard.pressed() == []


def test_the_end_of_one_input_is_not_that_of_the_next():
    """Files that are opened later get the numbers of those that were closed."""
    for _ in range(2):
        read, write = os.pipe()
        os.write(write, b"y")
        with os.fdopen(read) as source:
            keyboard = _Keyboard(source)
            assert keyboard.pressed() == ["y"]
            os.close(write)
            assert keyboard.pressed() == [] and keyboard.ended


def recorder(*arguments):
    return [sys.executable, str(ROOT / "recording_scripts" / "record.py"), *map(str, arguments)]


@pytest.mark.slow
def test_the_command_on_a_terminal_as_a_dry_run(tmp_path):
    import pty

    main, other = pty.openpty()
    command = recorder("--no-mic", "--terminal", "--repetitions", 1, "--seconds", 0.2, "--pause", 0.2, "--recordings",
                       tmp_path)  # fmt: skip
    process = subprocess.Popen(command, stdin=other, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    os.close(other)
    keys = ["y", *[text + "\r" for text in ANSWERS.values()], "\r", "\r"]
    start = b""
    while b"[Y I agree" not in start:
        start += process.stdout.read1()
    time.sleep(0.2)
    os.write(main, keys[0].encode())
    time.sleep(5)  # one series of two seconds, lead, tail and pauses
    os.write(main, "".join(keys[1:]).encode())
    out, _ = process.communicate(timeout=20)
    os.close(main)
    assert process.returncode == 0, out.decode()
    assert "Is this right?" in out.decode() and "age: 33" in out.decode()
    assert list(tmp_path.iterdir()) == []  # a dry run keeps nothing


@pytest.mark.parametrize("outcome, status", [("done", 0), ("stopped", 1), ("declined", 1)])
def test_a_dry_run_says_that_nothing_was_kept(outcome, status, capsys):
    dry = SimpleNamespace(folder=None)
    assert record.report(dry, outcome, SimpleNamespace()) == status
    assert capsys.readouterr().out == "dry run: nothing was kept\n"


@pytest.mark.parametrize(
    "arguments, status, message",
    [(["--repetitions", "0"], 2, "at least 1"), (["--seconds", "0"], 2, "0.2 to 60"),
     (["--new", "--continue"], 2, "expected --new or --continue, got both"),
     (["--window", "gtk"], 2, "invalid choice")],
)  # fmt: skip
def test_misuse(arguments, status, message, capsys):
    with pytest.raises(SystemExit) as end:
        record.main(arguments)
    assert end.value.code == status and message in capsys.readouterr().err


def test_an_unfinished_session_is_not_forgotten(tmp_path, monkeypatch, capsys):
    Session.create(tmp_path, 1, seed=0).release()
    monkeypatch.setattr(record, "Microphone", lambda wanted: FakeRoom())
    assert record.main(["--recordings", str(tmp_path), "--terminal"]) == 1
    assert (
        "--continue, or --new for another speaker, got an unfinished one (10 digits missing, metadata not asked)"
        in capsys.readouterr().err
    )


def test_kill_in_the_middle_of_writing_leaves_a_usable_session(tmp_path):
    """A process that writes takes as fast as it can is killed; whatever the moment, the log and its takes agree."""
    code = """
import sys, numpy as np
from pathlib import Path
from audiomnist.recording.session import Session
made = Session.create(Path(sys.argv[1]), 1000, seed=0)
print("ready", flush=True)
while True:
    made.add_take(np.ones(48000, np.int16), made.missing[:10], range(10))
"""
    for round_number in range(3):
        folder = tmp_path / str(round_number)
        process = subprocess.Popen([sys.executable, "-c", code, folder], stdout=subprocess.PIPE, cwd=ROOT)
        assert process.stdout.readline() == b"ready\n"
        time.sleep(0.15 + 0.07 * round_number)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        found = find_session(folder, None, unfinished=True)
        assert found.takes and all(len(read_wav(take.path)[0]) == 48000 for take in found.takes)
        assert len(found.missing) == 10000 - 10 * len(found.takes)


@pytest.mark.parametrize("torn", [b"", b'{"event": "session", "repeti'])
def test_a_session_that_was_killed_as_it_was_made_is_none(torn, tmp_path):
    dead = tmp_path / "sessions" / "20200101-120000"
    dead.mkdir(parents=True)
    (dead / "session.jsonl").write_bytes(torn)
    assert all_sessions(tmp_path) == []
    Session.create(tmp_path, 1, seed=0).release()
    assert [one.seed for one in all_sessions(tmp_path)] == [0]
    with pytest.raises(SessionError, match="expected a log that begins with a session"):
        Session.load(dead)


# ---- logs from somebody else


LOG = [  # as a recorder wrote it
    {"event": "session", "repetitions": 1, "seed": 0, "sample_rate": 48000, "date": "26-01-01-12-00-00"},
    {"event": "take", "take": 1, "file": "takes/0001.wav", "series": [[7, 0], [3, 0]], "onsets": [0.5, 1.5]},
    {"event": "reject", "take": None, "prompts": [[4, 0]], "reason": "key"},
    {"event": "speaker", "metadata": {**UNDERSTOOD, "recordingdate": "26-01-01-12-00-00"}},
    {"event": "cuts", "take": 1, "by": "auto", "marks": [None, [0.1, 0.4]], "confidence": [0, 1]},
    {"event": "lost", "take": 1, "prompts": [[7, 0]], "reason": "nothing heard"},
    {"event": "corpus", "path": "/nowhere", "speaker": "zoe"},
    {"event": "later versions may say more", "take": "x"},
]  # fmt: skip


def write_log(folder, log):
    """A session with a take of a second of speech-like noise; returns its folder."""
    made = folder / "sessions" / "20260101-120000"
    (made / "takes").mkdir(parents=True)
    noise = np.random.default_rng(0).normal(0, 20, 96000)
    noise[10000:24000] += 8000 * np.sin(np.arange(14000) / 10)
    (made / "takes" / "0001.wav").write_bytes(wav_bytes(noise.astype(np.int16), 48000))
    (made / "session.jsonl").write_text("".join(json.dumps(event) + "\n" for event in log))
    return made


def test_a_log_is_read_whoever_wrote_it(tmp_path):
    found = Session.load(write_log(tmp_path, LOG))
    assert found.events == LOG and found.takes[0].series == ((7, 0), (3, 0)) and len(found.missing) == 9
    assert found.missing[-2:] == [(4, 0), (7, 0)]


HOSTILE = [
    *((3, "metadata", {**UNDERSTOOD, "alias": alias})
      for alias in ("../../OUT", "/OUT", "..", ".", "", "a/b", "a\\b", "zoe\n", "Zoe", "x" * 33, 3, None, ["zoe"])),
    *((3, "metadata", value) for value in (
        None, [], "zoe", {}, {"alias": "zoe"}, {**UNDERSTOOD, "age": 10**400}, {**UNDERSTOOD, "gender": 1},
        {**UNDERSTOOD, "age": 10000}, {**UNDERSTOOD, "age": -10000},
        {**UNDERSTOOD, "gender": "\x1b[2J"}, {**UNDERSTOOD, "accent": ["x"]}, {**UNDERSTOOD, "origin": "x" * 101},
        {**UNDERSTOOD, "x" * 101: ""})),
    *((1, "file", name) for name in (
        "/etc/shadow", "../../x.wav", "takes/../x.wav", "takes/link.wav", "takes//etc/x.wav", "session.jsonl", "", 1,
        None, "takes/0001.wav\n", "takes/٣.wav")),
    *((row, field, [prompt, [3, 0]]) for row, field in ((1, "series"), (2, "prompts"), (5, "prompts")) for prompt in (
        ["../../x", 0], [10, 0], [-1, 0], [7, "0"], [7, -1], [7, 10**9], [7.0, 0], [True, 0], [7], [7, 0, 0], 7, "70",
        None)),
    *((1, "series", value) for value in (None, 3, "ab", {"7": 0, "3": 0}, [], [[7, 0]])),
    *((1, "onsets", value) for value in (
        None, 3, [0.5], ["0.5", 1], [None, 1], [float("nan"), 1], [float("inf"), 1], [-1, 1], [True, 1])),
    *((0, "repetitions", value) for value in (10**9, 1e9, 0, -1, "1", None, True, 1.0)),
    *((0, "seed", value) for value in ("0", None, 0.5, [])),
    *((0, "date", value) for value in (3, None, "\x1b[2J", "x" * 101)),
    *((row, "take", value) for row in (1, 4, 5) for value in ("1", None, 0, [1], {})),
    *((2, "take", value) for value in ("1", [1], {})),
    *((4, "by", value) for value in (None, 3, [])),
    *((4, "marks", value) for value in (
        None, [], [None], "ab", [[0, 1]] * 3, [None, [0.1]], [None, [0.4, 0.1]], [None, [-1, 1]], [None, ["0", "1"]],
        [None, [0, float("inf")]], [None, [float("nan"), 1]], [None, 3])),
    *((6, "path", value) for value in (None, 3, [])),
]  # fmt: skip


def files_under(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


@pytest.mark.parametrize("row, field, value", HOSTILE)
def test_hostile_logs_are_refused_in_a_sentence_and_nothing_is_written(row, field, value, tmp_path, capsys):
    log = [dict(event) for event in LOG]
    log[row][field] = value
    folder = write_log(tmp_path / "in", log)
    before = files_under(tmp_path)
    assert cut.main([str(folder)]) == 1
    error = capsys.readouterr().err
    line = "" if row == 0 and field == "date" else f" line {row + 1}"
    assert error.startswith(f"cut.py: {folder / 'session.jsonl'}{line}: ") and error.count("\n") == 1, error
    assert "expected" in error and files_under(tmp_path) == before


@pytest.mark.parametrize("row, field", sorted({(row, field) for row, field, _ in HOSTILE}))
def test_what_is_missing_in_a_log_is_a_sentence(row, field, tmp_path):
    log = [dict(event) for event in LOG]
    del log[row][field]
    with pytest.raises(SessionError, match="expected"):
        Session.load(write_log(tmp_path, log))


@pytest.mark.parametrize("line", ['{"event": "take", "take": 1' + "0" * 5000 + "}", "[" * 100_000, "3", '{"event": 3}'])
def test_lines_that_are_no_events_are_named(line, tmp_path):
    folder = write_log(tmp_path, LOG)
    with open(folder / "session.jsonl", "a") as file:
        file.write(line + "\n")
    with pytest.raises(SessionError, match=r"session\.jsonl line 9: expected an event, got .{1,70}$"):
        Session.load(folder)


def test_a_second_take_of_a_number_is_refused(tmp_path):
    with pytest.raises(SessionError, match="line 9: expected a number of its own, got a second take 1"):
        Session.load(write_log(tmp_path, [*LOG, LOG[1]]))


def test_a_take_that_is_a_link_to_elsewhere_is_not_read(tmp_path):
    folder = write_log(tmp_path / "in", LOG)
    (folder / "takes" / "0001.wav").rename(tmp_path / "private.wav")
    (folder / "takes" / "0001.wav").symlink_to(tmp_path / "private.wav")
    with pytest.raises(SessionError, match="line 2: expected a file in the session's folder, got .*0001.wav, a link"):
        Session.load(folder)


# ---- a corpus is never harmed


def test_an_alias_of_somebody_else_is_refused_when_cutting(tmp_path, capsys):
    made = Session.create(tmp_path, 1, seed=0)
    made.add("speaker", metadata={**UNDERSTOOD, "recordingdate": made.date})
    corpus = tmp_path / "corpus"
    (corpus / "zoe").mkdir(parents=True)
    made.release()
    assert cut.main([str(made.folder)]) == 1
    assert "expected an alias of the speaker's own, got zoe, which another session has" in capsys.readouterr().err
    (corpus / "zoe").rmdir()
    (corpus / "audioMNIST_meta.txt").write_text('{"01": {"gender": "male"}}')
    assert cut.main([str(made.folder)]) == 0
    meta = json.loads((corpus / "audioMNIST_meta.txt").read_text())
    assert meta["01"] == {"gender": "male"} and meta["zoe"]["age"] == 33 and "alias" not in meta["zoe"]
