"""Every notebook, executed as a reader would, on a study in miniature: with all runs, with the demo's, with none."""

import ast
import dataclasses
import json
import re
import shlex
import shutil
from pathlib import Path

import nbformat
import papermill
import pytest

from audiomnist.runs import train_test
from audiomnist.study import notebook
from audiomnist.study.catalogue import catalogue, command_name
from audiomnist.study.conclusion import Conclusion
from audiomnist.study.outcome import Experiment, Outcome
from audiomnist.study.setting import COMPOSITES, ExperimentError, Setting
from audiomnist.study.statistics import Estimate

ROOT = Path(__file__).resolve().parents[3]
ONE_RECORDING = ROOT / "notebooks/0_one_recording.ipynb"  # belongs to no experiment: tests/test_one_recording.py
NOTEBOOKS = sorted(set((ROOT / "notebooks").glob("*.ipynb")) - {ONE_RECORDING})
FOLDERS = ("data", "preprocessed", "runs")
DEMO_RUNS = ("AlexNet_digit_0", "AudioNet_digit_0")  # what `./train_test.sh --demo` trains
MISSING = re.compile(r"Nothing to show: .+; `(\./train_test\.sh --demo.*)` makes the demo's, .+ others\.\n")


def experiment_of(path):
    return path.stem.partition("_")[2]


def code(path):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def first_cell(path):
    """{parameter: its default} of a notebook."""
    return {line.targets[0].id: ast.literal_eval(line.value) for line in ast.parse(code(path)[0].source).body}


def executed(path, folder, **parameters):
    """(what the notebook displays: {kind}, what it prints) when executed, which raises where a cell does."""
    parameters = {"settings": {"limit": 1, "composites": ["epsilon_plus"]}, **parameters}
    parameters = {name: value for name, value in parameters.items() if name in first_cell(path)}
    papermill.execute_notebook(
        path, folder / path.name, parameters, cwd=folder, kernel_name="python3", progress_bar=False
    )
    outputs = [output for cell in code(folder / path.name) for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    printed = "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")
    return outputs, printed


def kinds(outputs):
    return {kind for output in outputs for kind in output.get("data", {})}


def test_there_is_a_notebook_for_every_experiment():
    assert sorted(map(experiment_of, NOTEBOOKS)) == sorted(catalogue())


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_plain_and_committed_without_output(path):
    cells = code(path)
    assert cells[0].metadata.get("tags") == ["parameters"]
    for cell in cells:
        assert cell.outputs == [] and cell.execution_count is None
        assert not any(line.startswith(("def ", "class ", "if ", "while ")) for line in cell.source.splitlines())
    assert sum(len(cell.source.splitlines()) for cell in cells) < 40


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_say_what_they_are_and_begin_with_the_parameters_that_they_use(path):
    folders = {"corpus": ["data"], "training_curves": ["preprocessed", "runs"]}.get(experiment_of(path))
    assert list(first_cell(path)) == (folders or [*FOLDERS, "settings"])
    made = ast.parse(code(path)[1].source.replace("%", "# ")).body[-1].value
    used = {keyword.arg or keyword.value.id: keyword.value.id for keyword in made.keywords}
    assert used == {name: name for name in first_cell(path)}
    name = experiment_of(path)
    first = nbformat.read(path, as_version=4).cells[0].source
    for wanted in (f"`audiomnist/experiments/{name}.py`", f"`audiomnist {command_name(name)}`", f"`results/{name}/`"):
        assert wanted in first, wanted
    assert "paper" in first


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_teach(path):
    """A question at the head, formulas, predictions before results, and at the end what was found and what that is
    not; every example of settings is one that the settings know."""
    cells = nbformat.read(path, as_version=4).cells
    texts = [cell.source for cell in cells if cell.cell_type == "markdown"]
    assert "?" in texts[0].partition("\n\nThe experiment")[0]
    assert any(re.search(r"\$.*=.*\$", text) for text in texts)
    shown = [index for index, cell in enumerate(cells) if cell.source.startswith(("made.figures", "made.sounds"))]
    assert shown and sum("**Predict:**" in text for text in texts) >= 2
    assert any("**Predict:**" in cell.source for cell in cells[: shown[0]])
    assert cells[-2].source == "made.findings()" and cells[-1].cell_type == "markdown"
    last = cells[-1].source
    assert re.search(r"not say|says nothing|robust and nothing|no conclusion|cannot be read", last) and (
        "interval" in last or any("interval" in text for text in texts)
    )
    for example in re.findall(r"for example (\{.*\});", cells[1].source):
        names = {field.name for field in dataclasses.fields(Setting)}
        assert set(ast.literal_eval(example)) <= names


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run(path, small_study, tmp_path):
    outputs, printed = executed(path, tmp_path, **{name: str(small_study / name) for name in FOLDERS})
    assert "image/png" in kinds(outputs)
    if "audible" in path.stem:
        assert any("<audio" in json.dumps(output) for output in outputs)
    assert f"{experiment_of(path)}/" in printed and "Nothing to show" not in printed
    chosen = set(COMPOSITES) & set(re.findall(r"epsilon_\w+", json.dumps([outputs, printed])))
    assert chosen <= {"epsilon_plus"}


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run_after_the_demo_alone(path, small_study, tmp_path):
    for run in DEMO_RUNS:
        shutil.copytree(small_study / "runs" / run, tmp_path / "runs" / run)
    folders = {name: str(small_study / name) for name in FOLDERS} | {"runs": str(tmp_path / "runs")}
    outputs, printed = executed(path, tmp_path, **folders)
    if catalogue()[experiment_of(path)].task in (None, "digit"):
        assert "image/png" in kinds(outputs) and "Nothing to show" not in printed
    else:
        assert kinds(outputs) == set() and MISSING.fullmatch(printed), printed


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run_where_nothing_is(path, tmp_path):
    outputs, printed = executed(path, tmp_path, settings={})
    assert kinds(outputs) == set() and MISSING.fullmatch(printed), printed


@pytest.mark.parametrize("name", catalogue())
def test_the_command_that_is_named_trains_what_the_experiment_looks_at(name):
    experiment = catalogue()[name]
    script, *words = shlex.split(notebook.demo_command(experiment))
    assert script == "./train_test.sh"
    call = train_test.parse(words)
    assert call.demo and call.selection[2] == "0"
    assert call.selection[0] == "all" or call.selection[0] in experiment.networks
    assert call.selection[1] == (experiment.task or "digit")
    defaults = first_cell(next(path for path in NOTEBOOKS if experiment_of(path) == name))
    folders = dict(zip(FOLDERS, (call.data, call.preprocessed, call.runs), strict=True))
    for folder in set(FOLDERS) & set(defaults):
        assert (ROOT / "notebooks" / defaults[folder]).resolve() == folders[folder]


def test_an_unknown_composite_is_one_sentence(small_study, capsys):
    folders = {name: str(small_study / name) for name in FOLDERS}
    made = notebook.make(catalogue()["spectrogram_relevance"], **folders, composites=["wishful"], limit=1)
    printed = capsys.readouterr().out
    assert re.fullmatch(r"Nothing to show: .*wishful.*\.\n", printed) and "train_test" not in printed
    made.figures(), made.sounds(), made.findings()
    assert made.table("explanations") is None and capsys.readouterr().out == ""


def test_an_unknown_setting_is_one_sentence(capsys):
    notebook.make(catalogue()["table1"], data="somewhere", limits=3)
    printed = capsys.readouterr().out
    assert printed.startswith("Nothing to show: settings: expected data, preprocessed, runs, limit, ")
    assert printed.endswith(", got limits.\n")


def test_folders_are_relative_to_where_python_works(tmp_path, monkeypatch):
    found = []

    def made(setting):
        found.append(setting)
        raise ExperimentError("enough")

    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    folders = {"data": "a", "preprocessed": "../b", "runs": str(tmp_path / "c")}
    notebook.make(Experiment("one", "One", made), **folders, seed=2, composites=["epsilon_plus"])
    wanted = Setting(tmp_path / "here/a", tmp_path / "b", tmp_path / "c", seed=2, composites=("epsilon_plus",))
    assert found == [wanted]


def test_findings_say_what_brackets_are_and_hold_conclusions_with_their_intervals(capsys):
    estimate = Estimate(12.5, 3.25, 20.75, 1, 6, 60, p=0.031)
    outcome = Outcome(
        findings=["A score of 0.512 [0.410, 0.601]."],
        conclusions=[Conclusion("one is above none", estimate, (0.0, float("inf")), " points", "it is a demo")],
        unverified=["Whether it is so."],
    )
    notebook.Made(Experiment("one", "One", None), outcome).findings()
    found, claims, checks, _ = capsys.readouterr().out.split("\n\n")
    assert found == "Found (in square brackets: 95 % intervals by speakers):\n- A score of 0.512 [0.410, 0.601]."
    assert checks == "To be checked in the paper:\n- Whether it is so."
    assert max(map(len, claims.splitlines())) <= 100
    assert claims.replace("\n  ", " ") == (
        "The paper's conclusions, and what must hold for them:\n- Not applicable: one is above none (12.50 points "
        "(95 % interval 3.25 to 20.75); claimed: above 0 points; p = 0.031, after Holm 0.031 (1 test of our own "
        "questions); 6 speakers, 1 split, because it is a demo)."
    )
    notebook.Made(Experiment("one", "One", None), Outcome(findings=["Two [of three]."])).findings()
    assert capsys.readouterr().out == "Found:\n- Two [of three].\n\n"
