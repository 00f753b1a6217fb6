"""The recorder and the validator measure alike: what the one lets a speaker do, the other does not complain about."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_corpus import make_corpus, speech, wav_file

from audiomnist.corpus import validate
from audiomnist.corpus.layout import scan
from audiomnist.recording import questions
from audiomnist.recording.prompter import loudness
from audiomnist.recording.utterances import clipped_times
from audiomnist.signal.clipping import clipped_runs

AGE = next(question for question in questions.questions(()) if question.key == "age")


def recorder_takes(text):
    try:
        AGE.understand(text)
    except questions.AnswerError:
        return False
    return True


@given(st.integers(-10, 1300))
def test_an_age_is_taken_by_the_recorder_where_the_validator_has_nothing_to_say(age):
    meta = {"zoe": {"gender": "female", "age": age}}
    assert recorder_takes(str(age)) == (validate.check_attributes(meta, {"zoe"}, "meta") == [])


def test_a_child_of_three_speaks_and_nobody_is_over_110():
    assert [age for age in range(200) if recorder_takes(str(age))] == list(range(3, 111))


@pytest.mark.parametrize("run, is_clipped", [(1, False), (2, False), (3, True), (4, True), (50, True)])
@pytest.mark.parametrize("limit", [32767, -32767, -32768])
def test_the_shortest_clipped_run_is_the_same_for_recorder_cutter_and_validator(tmp_path, limit, run, is_clipped):
    source = make_corpus(tmp_path / "in", {"01": "male"}, digits=(0,))
    samples = speech(5)
    samples[1000 : 1000 + run] = limit
    (source / "01/0_01_0.wav").write_bytes(wav_file(samples.tobytes()))
    found = validate.check_sounds([validate.listen(recording) for recording in scan(source)[0]])
    wanted = [f"{run} samples in a row at the limit"] if is_clipped else []
    assert [finding.got for finding in found] == wanted
    assert loudness(samples).clipped == (run if is_clipped else 0)
    assert list(clipped_times(samples, 8000)) == ([0.125] if is_clipped else [])


@given(st.lists(st.sampled_from([32767, -32767, -32768, 0, 32766, 900]), max_size=30))
def test_clipped_runs_are_those_that_a_loop_counts(values):
    wanted, start = [], 0
    ends = [1 if value >= 32767 else -1 if value <= -32767 else 0 for value in values]
    for k in range(1, len(ends) + 1):
        if k == len(ends) or ends[k] != ends[start]:
            if ends[start] and k - start >= 3:
                wanted.append((start, k))
            start = k
    starts, stops = clipped_runs(np.array(values, np.int16))
    assert list(zip(starts, stops, strict=True)) == wanted
