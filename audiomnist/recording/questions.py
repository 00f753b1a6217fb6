"""What a speaker is asked: consent before the session, metadata after it (asked before, it might bias the speech)."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from audiomnist.corpus.attributes import AGES
from audiomnist.corpus.metadata import GENDERS, META_NAME, read_metadata
from caffe_proto import UserError

MAX_TEXT = 100  # characters
_ALIAS = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")  # what file names, lists of files and AudioMNIST's grammar can hold

CONSENT = "\n".join((
    "You will be shown series of ten digits. Say each one, in English, as soon as it turns green.",
    "Your voice is recorded. The recordings are kept with an alias of your choice and with your answers to a few "
    "questions at the end: age, gender, accent, first language, origin, and the room. They will be used for research "
    "on speech recognition and may be passed on to others for that purpose. Voices can be recognised: an alias is no "
    "anonymity.",
    "Taking part is voluntary. You can stop at any time and have your recordings deleted.",
))  # fmt: skip


class AnswerError(UserError, ValueError):
    """An answer that cannot be taken; the message is one sentence for the speaker."""


@dataclass(frozen=True)
class Question:
    """One piece of metadata: its key in AudioMNIST's file, what the speaker reads, and how the answer is understood."""

    key: str
    text: str
    understand: Callable[[str], object]  # raises AnswerError


def is_alias(text: object) -> bool:
    """Whether it can name a speaker: up to 32 of the letters a-z, digits and hyphens."""
    return isinstance(text, str) and _ALIAS.fullmatch(text) is not None


def is_text(text: object) -> bool:
    """Whether it can be an answer in words: up to 100 printable characters."""
    return isinstance(text, str) and len(text) <= MAX_TEXT and text.isprintable()


def _alias(taken: Collection[str]) -> Callable[[str], str]:
    names = {alias.casefold() for alias in taken}  # file systems may not tell case apart

    def understand(text: str) -> str:
        alias = text.strip().casefold()
        if not is_alias(alias):
            raise AnswerError("", "up to 32 of the letters a-z, digits and hyphens", repr(text))
        if alias in names:
            raise AnswerError("", "an alias that nobody has", alias)
        return alias

    return understand


def _age(text: str) -> int:
    text = text.strip()
    if not re.fullmatch(r"[0-9]{1,3}", text) or int(text) not in AGES:
        raise AnswerError("", f"your age in years, {AGES[0]} to {AGES[-1]}", repr(text))
    return int(text)


def _one_of(*choices: str) -> Callable[[str], str]:
    def understand(text: str) -> str:
        said = text.strip().casefold()
        found = [choice for choice in choices if said and choice.startswith(said)]
        if len(found) != 1:
            raise AnswerError("", f"{', '.join(choices[:-1])} or {choices[-1]}", repr(text))
        return found[0]

    return understand


def _text(text: str) -> str:
    text = " ".join(text.split())
    if not text or not is_text(text):
        raise AnswerError("", f"1 to {MAX_TEXT} characters (or: unknown)", f"{text!r:.40}")
    return text


def questions(taken: Collection[str]) -> tuple[Question, ...]:
    """The questions in order; `taken` are the aliases that are in use."""
    return (
        Question("alias", "Alias (letters a-z, digits, hyphens)", _alias(taken)),
        Question("age", "Age in years", _age),
        Question("gender", "Gender (male, female, other)", _one_of(*GENDERS, "other")),
        Question("accent", "Accent (such as German)", _text),
        Question("native speaker", "Is English your first language? (yes, no)", _one_of("yes", "no")),
        Question("origin", "Where did you grow up? (continent, country, city)", _text),
        Question("recordingroom", "Which room is this?", _text),
    )


def check_answers(answers: Mapping[str, str], taken: Collection[str]) -> dict:
    """Answers as text -> metadata with sensible types. Raises AnswerError naming the first that cannot be taken."""
    asked = questions(taken)
    if unknown := set(answers) - {question.key for question in asked}:
        raise AnswerError("", f"answers to {', '.join(q.key for q in asked)}", repr(sorted(unknown)[0]))
    metadata = {}
    for question in asked:
        if question.key not in answers:
            raise AnswerError(question.key, "an answer", "none")
        try:
            metadata[question.key] = question.understand(str(answers[question.key]))
        except AnswerError as error:
            raise AnswerError(question.key, error.expected, error.got) from None
    return metadata


def taken_aliases(corpus: Path, others: Iterable[Mapping | None]) -> set[str]:
    """The aliases in use: folders and metadata of the corpus, and the speakers of other sessions.

    Raises CorpusError when there is metadata that cannot be read.
    """
    corpus = Path(corpus)
    taken = {speaker["alias"] for speaker in others if speaker}
    if corpus.is_dir():
        taken |= {path.name for path in corpus.iterdir() if path.is_dir()}
        if (corpus / META_NAME).exists():
            taken |= set(read_metadata(corpus / META_NAME))
    return taken
