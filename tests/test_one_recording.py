"""notebooks/0_one_recording.ipynb and its small network: a first picture without training."""

import json
import re
from pathlib import Path

import h5py
import nbformat
import numpy as np
import papermill
import pytest
import torch

import lrp
from audiomnist.explain.cli import main as lrp_command
from audiomnist.signal.inputs import network_inputs
from caffe_proto import read_net, read_weights

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "notebooks/0_one_recording.ipynb"
FOLDER = ROOT / "notebooks/one_recording"
DEPLOY, WEIGHTS, WAV = FOLDER / "deploy.prototxt", FOLDER / "small.caffemodel", FOLDER / "seven.wav"


def by_torch(data):
    """The ten scores of data (1, 1, 227, 227): the network written out with torch's functions, pooling with -inf
    beyond the border as Caffe rounds its sizes up."""
    f = torch.nn.functional
    weights = {name: [torch.from_numpy(np.array(one)).double() for one in own] for name, own in
               read_weights(WEIGHTS).items()}  # fmt: skip
    x = torch.from_numpy(data).double() * 0.05 + 3
    x = f.max_pool2d(f.conv2d(x, *weights["conv1"], stride=3).relu(), 3, 2, ceil_mode=True)
    x = f.max_pool2d(f.conv2d(x, *weights["conv2"], padding=2).relu(), 3, 3, ceil_mode=True)
    x = f.max_pool2d(f.conv2d(x, *weights["conv3"], padding=1).relu(), 2, 2, ceil_mode=True)
    weight, bias = weights["fc"]
    return (x.flatten() @ weight.reshape(10, -1).T + bias.flatten()).numpy()


def test_it_hears_a_seven_and_is_small():
    data = network_inputs(WAV, WAV.name)["AlexNet"]
    scores = lrp.Network(DEPLOY, WEIGHTS).forward(data)[0]
    assert scores.argmax() == 7
    assert np.allclose(scores, by_torch(data), rtol=1e-4, atol=1e-4)
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 1_000_000


def test_what_is_used_is_what_was_trained():
    """deploy.prototxt has the layers of train.prototxt between data and loss, with the same settings."""
    used, trained = ({layer.name: layer for layer in read_net(FOLDER / name).layer} for name in
                     ("deploy.prototxt", "train.prototxt"))  # fmt: skip
    assert [name for name in trained if name in used] == [name for name in used if name != "prob"]
    for name, layer in used.items():
        if name in trained and name != "data":
            other = trained[name]
            for param in (layer.convolution_param, other.convolution_param):
                param.ClearField("weight_filler")
            for param in (layer.inner_product_param, other.inner_product_param):
                param.ClearField("weight_filler")
            assert layer.SerializeToString(deterministic=True) == other.SerializeToString(deterministic=True), name


def test_the_command_that_its_readme_and_notebook_show_draws_it(tmp_path, monkeypatch, capsys):
    text = nbformat.read(NOTEBOOK, as_version=4).cells[-1].source
    words = re.search(r"```bash\nlrp (.*?)```", text, re.DOTALL)[1].replace("\\\n", " ").split()
    paths = [str(ROOT / word) if word.startswith("notebooks/") else word for word in words]
    monkeypatch.chdir(tmp_path)
    assert lrp_command(paths) == 0
    assert capsys.readouterr().out.startswith("predicted 7")
    assert {"seven.png", "seven_relevant.wav"} == {path.name for path in tmp_path.iterdir()}


def test_the_notebook_is_committed_without_output():
    cells = [cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code"]
    assert cells[0].metadata.get("tags") == ["parameters"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in cells)


def test_the_readme_s_lines_work_as_written(tmp_path, monkeypatch):
    block = re.search(r"```python\n(import lrp\n.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)[
        1
    ]
    (tmp_path / "notebooks").symlink_to(ROOT / "notebooks")
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(block, names)
    assert names["e"].prediction.tolist() == [7]
    assert names["e"].conserved == pytest.approx([1], abs=0.03)
    assert (tmp_path / "why_seven.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "why_seven.wav").read_bytes().startswith(b"RIFF")
    with h5py.File(tmp_path / "why_seven.hdf5") as file:
        assert np.array_equal(file["relevance"][()], names["e"].relevance)


@pytest.mark.slow
def test_the_notebook_finds_what_it_says(tmp_path):
    papermill.execute_notebook(
        NOTEBOOK, tmp_path / "out.ipynb", {"root": str(ROOT)}, cwd=tmp_path, kernel_name="python3", progress_bar=False
    )
    cells = nbformat.read(tmp_path / "out.ipynb", as_version=4).cells
    outputs = [output for cell in cells if cell.cell_type == "code" for output in cell.outputs]
    printed = "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")
    assert "(8000,), 55% zeros" in printed
    assert float(re.search(r"scipy's differs by at most (\S+) dB", printed)[1]) < 0.01
    assert "it says 7" in printed
    assert float(re.search(r"by lrp differ by at most (\S+)\n", printed)[1]) < 1e-5
    total, score = map(float, re.search(r"over the input: (\S+); the score: (\S+)\n", printed).groups())
    assert total == pytest.approx(score, rel=0.03)
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 5
    assert json.dumps(outputs).count("<audio") == 3
