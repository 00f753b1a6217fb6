"""Every Markdown file: links lead somewhere; the commands it shows exist and know the flags they are given."""

import contextlib
import io
import re
import runpy
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.test_docs import text_files

ROOT = Path(__file__).parents[1]
DOCUMENTS = [path.relative_to(ROOT) for path in text_files(".md")]
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
BLOCK = re.compile(r"^```(?:bash|sh|console)\n(.*?)^```", re.DOTALL | re.MULTILINE)
SPAN = re.compile(r"`([^`]+)`")
INDENTED = re.compile(r"(?:^|\n\n)((?:    \S.*\n)+)")
PROGRAMS = {"audiomnist", "caffe", "lrp", "pytest", "python", "python3"}
WHAT_IT_IS_NOT = re.compile(r"[|<>&;]|\.\.\.")  # from here on a line is another command, or no command


def anchors(text):
    """The anchors that a page gives its headings: lower case, without punctuation, with hyphens for spaces."""
    heads = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def commands(path):
    """The commands of a document, as lists of words: of its blocks of shell and of its spans of code."""
    text = (ROOT / path).read_text(encoding="utf-8")
    lines = []
    for block in [*BLOCK.findall(text), *INDENTED.findall(re.sub(BLOCK, "", text))]:
        lines += block.replace("\\\n", " ").splitlines()
    lines += [" ".join(span.split()) for span in SPAN.findall(re.sub(r"```.*?```", "", text, flags=re.DOTALL))]
    for line in lines:
        line = WHAT_IT_IS_NOT.split(line.strip())[0]
        with contextlib.suppress(ValueError):  # a span of code with a quotation mark
            words = shlex.split(line, comments=True)
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):  # VARIABLE=value before a command
                words.pop(0)
            if len(words) > 1 and (words[0] in PROGRAMS or words[0].endswith((".sh", ".ci/run"))):
                yield words


def run_help(module, *arguments):
    """What a module prints when it is run as a program and asked for help, in this process."""
    said, before = io.StringIO(), sys.argv
    sys.argv = [module, *arguments]
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), contextlib.suppress(SystemExit):
            runpy.run_module(module, run_name="__main__")
    finally:
        sys.argv = before
    return said.getvalue()


@cache
def help_of(program, *words):
    """(the help of a command, how many of its words name it). Raises AssertionError where there is no such command."""
    if program in ("python", "python3") and words[0] == "-m":
        module, *rest = words[1:]
        sub = [rest[0]] if module in ("audiomnist", "benchmarks.mutation", "benchmarks.results") and rest else []
        return run_help(module, *sub, "--help"), 2 + len(sub)
    if program in ("python", "python3"):
        assert (ROOT / words[0]).is_file(), words[0]
        # a process of its own, as a script may put another interpreter in its place
        done = subprocess.run([sys.executable, words[0], "--help"], cwd=ROOT, capture_output=True, text=True)
        return done.stdout, 1
    if program == "audiomnist":
        sub = [] if words[0].startswith("-") else [words[0]]
        return run_help("audiomnist", *sub, "--help"), len(sub)
    if program in ("caffe", "lrp"):
        return run_help(program, "--help"), 0
    script = ROOT / program.removeprefix("./")
    assert script.is_file(), program
    said = script.read_text(encoding="utf-8")
    if script.name in ("train_test.sh", "slurm.sh"):  # their flags are the runner's and the study's
        said += run_help("audiomnist", "study", "--help")
        said += (ROOT / "audiomnist/runs/train_test.py").read_text(encoding="utf-8")
    return said, 0


@pytest.mark.parametrize("path", DOCUMENTS, ids=str)
def test_relative_links_lead_somewhere(path):
    text = (ROOT / path).read_text(encoding="utf-8")
    for link in LINK.findall(text):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (ROOT / path.parent / file).resolve() if file else ROOT / path
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), link


@pytest.mark.parametrize("path", [path for path in DOCUMENTS if any(commands(path))], ids=str)
def test_commands_exist_and_know_their_flags(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    for words in commands(path):
        program, *rest = words
        if program == "pytest" or rest[:2] == ["-m", "pytest"]:
            for word in rest:
                if "/" in word:
                    assert (ROOT / word.partition("::")[0]).exists(), words
            continue
        if program in ("python", "python3") and (rest[0] == "-c" or rest[:2] in (["-m", "pip"], ["-m", "venv"])):
            continue
        said, named = help_of(program, *rest)
        known = set(re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", said))
        assert known, words
        for word in rest[named:]:
            flag = re.match(r"--?[a-zA-Z][\w-]*", word)
            if flag:
                assert {flag[0], "-" + flag[0], flag[0].removeprefix("-")} & known, (flag[0], words)


def test_what_the_tests_look_for_is_found():
    """The patterns above do find links, commands and anchors: they are not green for nothing."""
    found = [words for path in DOCUMENTS for words in commands(path)]
    assert len(found) > 60
    assert {"audiomnist", "caffe", "lrp", "python", "pytest", "./train_test.sh"} <= {words[0] for words in found}
    assert anchors("# What `x` is, and why\n") == {"what-x-is-and-why"}
    assert LINK.findall("[a](b/c.md#d) ![e](f.png)") == ["b/c.md#d", "f.png"]
    with pytest.raises(AssertionError):
        help_of("tests/no_such.sh", "--flag")
