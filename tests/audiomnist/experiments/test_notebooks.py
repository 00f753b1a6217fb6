"""Every notebook, executed as a reader would, on a study in miniature."""

import json
from pathlib import Path

import nbformat
import papermill
import pytest

from audiomnist.study.catalogue import catalogue

ROOT = Path(__file__).resolve().parents[3]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def code(path):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def test_there_is_a_notebook_for_every_experiment():
    assert sorted(path.stem.partition("_")[2] for path in NOTEBOOKS) == sorted(catalogue())


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_plain_and_committed_without_output(path):
    cells = code(path)
    assert cells[0].metadata.get("tags") == ["parameters"]
    for cell in cells:
        assert cell.outputs == [] and cell.execution_count is None
        assert not any(line.startswith(("def ", "class ", "if ", "while ")) for line in cell.source.splitlines())
    assert sum(len(cell.source.splitlines()) for cell in cells) < 40


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run(path, small_study, tmp_path):
    parameters = {
        "root": str(ROOT),
        "limit": 1,
        **{name: str(small_study / name) for name in ("data", "preprocessed", "runs")},
    }
    papermill.execute_notebook(
        path, tmp_path / path.name, parameters, cwd=tmp_path, kernel_name="python3", progress_bar=False
    )
    outputs = [output for cell in code(tmp_path / path.name) for output in cell.outputs]
    kinds = {kind for output in outputs for kind in output.get("data", {})}
    assert "image/png" in kinds
    if "audible" in path.stem:
        assert any("<audio" in json.dumps(output) for output in outputs)
    printed = "".join(output.get("text", "") for output in outputs if output.output_type == "stream")
    assert printed.strip()
