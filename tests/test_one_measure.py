"""The recorder and the validator measure alike: what the one lets a speaker do, the other does not complain about."""

from hypothesis import given
from hypothesis import strategies as st

from audiomnist.corpus import validate
from audiomnist.recording import questions

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
