"""Every notebook, executed as a reader would, on a study in miniature: with all runs, with the demo's, with none."""

import ast
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
from audiomnist.study.setting import COMPOSITES

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
    parameters = {"root": str(ROOT), "limit": 1, "composites": ["epsilon_plus"], **parameters}
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
def test_notebooks_say_what_they_are_and_begin_with_the_same_parameters(path):
    assert first_cell(path) == first_cell(NOTEBOOKS[0])
    assert {"root", *FOLDERS, "limit", "seed", "composites", "engine", "gpu"} == set(first_cell(path))
    name = experiment_of(path)
    first = nbformat.read(path, as_version=4).cells[0].source
    for wanted in (f"`audiomnist/experiments/{name}.py`", f"`audiomnist {command_name(name)}`", f"`results/{name}/`"):
        assert wanted in first, wanted
    assert "paper" in first


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
    outputs, printed = executed(path, tmp_path, root=str(tmp_path))
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
    defaults = first_cell(NOTEBOOKS[0])
    assert [call.data, call.preprocessed, call.runs] == [ROOT / defaults[name] for name in FOLDERS]


def test_an_unknown_composite_is_one_sentence(small_study, capsys):
    folders = [str(small_study / name) for name in FOLDERS]
    made = notebook.make(catalogue()["spectrogram_relevance"], str(ROOT), *folders, composites=["wishful"], limit=1)
    printed = capsys.readouterr().out
    assert re.fullmatch(r"Nothing to show: .*wishful.*\.\n", printed) and "train_test" not in printed
    made.figures(), made.sounds(), made.findings()
    assert made.table("explanations") is None and capsys.readouterr().out == ""
