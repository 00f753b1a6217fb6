"""docs/ and the code agree: cited sections exist, and so do the layer types, flags and variables that it lists."""

import re
import subprocess
from pathlib import Path

import pytest

import caffe
from caffe.cli import make_parser
from tests.test_house import FLOORS

ROOT = Path(__file__).parents[1]
ENGINE = (ROOT / "docs/engine.md").read_text(encoding="utf-8")
NUMBER = r"[0-9]+(?:\.[0-9]+)?"
CITATION = re.compile(rf"docs/engine\.md sections? ({NUMBER}(?:(?:, | and | to ){NUMBER})*)")


def text_files(*suffixes):
    """The repository's files of these suffixes, without what git ignores (without git: without hidden folders)."""
    try:
        names = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split("\0")
    except (FileNotFoundError, subprocess.CalledProcessError):
        names = [str(path.relative_to(ROOT)) for path in ROOT.rglob("*")]
        names = [name for name in names if not any(part.startswith(".") for part in Path(name).parts)]
    paths = [ROOT / name for name in names if name.endswith(suffixes)]
    return [path for path in paths if path.is_file() and path != Path(__file__)]


def flat(path):
    """The text of a file with its lines joined; comment signs at their beginnings are dropped."""
    return re.sub(r"\s*\n\s*(?:#\s)?\s*", " ", path.read_text(encoding="utf-8"))


def section(number):
    """The text of section `number` of docs/engine.md, with its subsections unless it is one."""
    level = "###" if "." in number else "##"
    _, found, rest = ENGINE.partition(f"\n{level} {number}{'' if '.' in number else '.'} ")
    assert found, number
    return re.split(rf"\n#{{2,{len(level)}}} ", rest)[0]


def test_every_cited_section_of_the_engine_s_document_exists():
    headings = re.findall(rf"^##+ ({NUMBER})\.? ", ENGINE, flags=re.MULTILINE)
    assert len(headings) == len(set(headings)) > 30
    cited = {
        (str(path.relative_to(ROOT)), number)
        for path in text_files(".py", ".md")
        for numbers in CITATION.findall(flat(path))
        for number in re.findall(NUMBER, numbers)
    }
    assert len({path for path, _ in cited if path.startswith("caffe/")}) >= 16
    assert not [(path, number) for path, number in cited if number not in headings]


@pytest.mark.parametrize(
    "path",
    [path for path in text_files(".py") if "docs/engine.md" in flat(path)],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_every_citation_names_a_section(path):
    assert len(CITATION.findall(flat(path))) == flat(path).count("docs/engine.md")


def test_nothing_cites_a_document_that_is_not_here():
    gone = "caffe_" + "semantics"
    assert not [path for path in text_files(".py", ".md", ".sh", ".proto", ".toml") if gone in flat(path)]


def test_the_layer_types_are_those_that_exist():
    listed = re.search(r"61 types[^`]*`([^`]+)`", section("2"))
    assert listed and listed[1].split() == list(caffe.layer_type_list())


def test_the_flags_are_those_of_the_command():
    known = {option for action in make_parser()._actions for option in action.option_strings}
    listed = set(re.findall(r"`(--?[a-z_]+)`", section("5"))) | {"--help"}
    assert {option.lstrip("-") for option in known} == {option.lstrip("-") for option in listed}


def test_the_environment_variables_are_those_that_the_engine_reads():
    read = {
        name
        for path in text_files(".py")
        if path.is_relative_to(ROOT / "caffe")
        for name in re.findall(r"\b(?:CAFFE_[A-Z0-9_]+|GLOG_\w+)", flat(path))
    }
    assert set(re.findall(r"^\| `(\w+)`", section("7.1"), flags=re.MULTILINE)) == read


ARCHITECTURE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")


def test_what_the_architecture_names_exists():
    named = {name for name in re.findall(r"`([\w./]+)`", ARCHITECTURE) if "/" in name or Path(name).suffix}
    files = {name for name in named if "audiomnist." not in name}
    assert len(files) > 40
    places = (ROOT, ROOT / "caffe_proto")
    assert not [name for name in files if not any((place / name).exists() for place in places)]


def test_the_floors_of_the_architecture_are_those_that_are_held():
    listed = re.search(r"## Floors(.*?)\n## ", ARCHITECTURE, flags=re.DOTALL)[1]
    heads = [item.partition(":")[0] for item in re.split(r"^\d+\. ", listed, flags=re.MULTILINE)[1:]]
    assert re.findall(r"`([\w.]+)`", " ".join(heads)) == FLOORS
