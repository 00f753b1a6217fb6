"""`pip install .` and `-e .`: packages, commands and data files from any folder, without the repository in sight."""

import json
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from environment import read_requirements

try:
    import tomllib
except ModuleNotFoundError:  # before Python 3.11
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]


def isolated(folder):
    """The environment of a process that finds nothing of the repository by itself."""
    hidden = ("PYTHONPATH", "PYTHONSAFEPATH", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if name not in hidden} | {"HOME": str(folder)}


@pytest.fixture(scope="module", params=["wheel", "editable"])
def installed(request, tmp_path_factory):
    """A virtual environment's bin folder: the project installed there, its dependencies borrowed from these tests."""
    folder = tmp_path_factory.mktemp(request.param)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "env"], check=True)
    site = next((folder / "env" / "lib").glob("python*/site-packages"))
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    source = folder / "source"
    subprocess.run(["git", "clone", "-q", "--no-local", "--depth", "1", f"file://{ROOT}", source], check=True)
    listed = subprocess.run(["git", "ls-files", "-mo", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    for name in filter(lambda name: (ROOT / name).is_file(), listed.stdout.splitlines()):  # what is not committed yet
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    what = ["--editable", source] if request.param == "editable" else [source]
    options = [
        "--python",
        folder / "env" / "bin" / "python",
        "install",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "pip", *options, *what], capture_output=True, text=True, env=isolated(folder)
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "env" / "bin"


def run(installed, folder, *command, code=0):
    done = subprocess.run(
        [installed / command[0], *map(str, command[1:])],
        cwd=folder,
        capture_output=True,
        text=True,
        env=isolated(folder),
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout, done.stderr


def test_the_packages_are_those_that_were_installed(installed, tmp_path):
    code = (
        "import json, audiomnist, caffe, caffe_proto, lrp; from audiomnist import places, provenance; "
        "print(json.dumps([caffe.__version__, audiomnist.__version__, provenance.made_by(), "
        "sorted(p.name for p in places.TABLES.glob('*.json')), str(places.MODELS), str(places.HOME), "
        "[m.__file__ for m in (audiomnist, caffe, caffe_proto, lrp)]]))"
    )
    engine, version, made_by, tables, models, home, files = json.loads(
        run(installed, tmp_path, "python", "-c", code)[0]
    )
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    assert engine.startswith("1.0") and made_by["version"] == version and made_by["commit"].split("+")[0] == head
    assert tables == ["corrections.json", "recordingdates.json", "splits.json"]
    place = installed.parents[1]
    assert all(Path(file).is_relative_to(place) for file in [models, *files])
    assert Path(home) == (tmp_path if "site-packages" in models else place / "source")


def test_every_data_file_of_the_repository_is_there(installed, tmp_path):
    code = "from audiomnist import places; import caffe_proto, audiomnist.explain; "
    code += "print(places.MODELS, *caffe_proto.__path__, *audiomnist.explain.__path__)"
    models, proto, explain = map(Path, run(installed, tmp_path, "python", "-c", code)[0].split())
    for here, there, pattern in (
        (ROOT / "models", models, "*/*.prototxt"),
        (ROOT / "models", models, "*/network.json"),
        (ROOT / "caffe_proto", proto, "*.proto"),
        (ROOT / "audiomnist" / "explain", explain, "*.html"),
        (ROOT / "audiomnist" / "explain", explain, "*.css"),
        (ROOT / "audiomnist" / "explain", explain, "*.js"),
        (ROOT / "audiomnist" / "recording", explain.parent / "recording", "*.html"),
        (ROOT / "audiomnist" / "recording", explain.parent / "recording", "*.js"),
    ):
        names = sorted(path.relative_to(here) for path in here.glob(pattern))
        assert names
        for name in names:
            assert (there / name).read_bytes() == (here / name).read_bytes()


@pytest.mark.slow
def test_the_commands_work_from_any_folder(installed, tmp_path):
    """A prototxt of nobody's trains, is explained, and a run of the study is rendered."""
    (tmp_path / "net.prototxt").write_text(
        'layer { name: "x" type: "DummyData" top: "x" top: "y" dummy_data_param { shape { dim: 4 dim: 6 } '
        'shape { dim: 4 dim: 1 } data_filler { type: "gaussian" } data_filler { value: 1 } } }\n'
        'layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip" '
        'inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }\n'
        'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "y" top: "loss" }\n'
    )
    (tmp_path / "x.prototxt").write_text(
        'net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed" max_iter: 3 display: 1 snapshot_prefix: "s"'
    )
    log = run(installed, tmp_path, "caffe", "train", "-solver=x.prototxt")[1]
    assert "Optimization Done." in log and (tmp_path / "s_iter_3.caffemodel").exists()
    code = "import lrp; print(lrp.Network('net.prototxt', 's_iter_3.caffemodel', output='ip').layer_types())"
    code = code.replace(".layer_types()", ".relevance(__import__('numpy').ones((1, 6))).scores.shape")
    assert run(installed, tmp_path, "python", "-c", code)[0].strip() == "(1, 3)"
    assert "usage: lrp" in run(installed, tmp_path, "lrp", "--help")[0]
    usage = run(installed, tmp_path, "audiomnist", "--help")[0]
    assert "gender-hypothesis" in usage and "demo-corpus" in usage
    assert "expected a command" in run(installed, tmp_path, "audiomnist", "fly", code=2)[1]


@pytest.mark.slow
def test_every_sub_command_has_a_help(installed, tmp_path):
    usage = run(installed, tmp_path, "audiomnist")[0]
    listed = [line.split()[0] for line in usage.splitlines() if line.startswith("  ") and "  " in line.strip()]
    experiments = usage.split("a command too:\n")[1].split("\n\n")[0].split()
    assert len(listed) > 10 and len(experiments) >= 8
    code = "import sys; from audiomnist.cli import main\nfor name in sys.argv[1:]:\n"
    code += "    try: main([name, '--help'])\n    except SystemExit as end: assert end.code == 0, name\n"
    names = [name for name in dict.fromkeys([*listed, *experiments]) if name not in experiments[1:]]
    out = run(installed, tmp_path, "python", "-c", code, *names)[0]
    for name in names:
        doors = {"explain": "lrp", "preprocess": "preprocessing_data.py", "train-test": "./train_test.sh"}
        assert f"usage: {doors.get(name, f'audiomnist {name}')}" in out.lower() or f"usage: {name}.py" in out, name


def test_pins_lie_in_the_ranges():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    needed = {
        "requirements.txt": [
            *project["project"]["dependencies"],
            *extras["study"],
            *extras["recording"],
            *extras["demo"],
        ],
        "requirements-dev.txt": [line for line in extras["dev"] if not line.startswith("audiomnist[")],
        "requirements-zennit.txt": project["dependency-groups"]["zennit"],
    }
    for file, ranges in needed.items():
        pins = {}
        for line in (ROOT / file).read_text().splitlines():
            requirement = line.partition("#")[0].partition(";")[0].strip()
            if requirement:
                name, _, version = requirement.partition("==")
                pins.setdefault(name, []).append([int(x) for x in version.split(".")])
        for line in ranges:
            name, _, minimum = line.partition(";")[0].partition(">=")
            assert all(version >= [int(x) for x in minimum.split(".")] for version in pins[name]), name


def test_the_recorder_alone_asks_for_a_package_of_the_sound_card():
    """Machines that train have none: an environment that lacks it must serve them as it is."""

    def names(*extras):
        return {name for name, _ in read_requirements(ROOT / "pyproject.toml", extras)}

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {extra for extra in extras if "sounddevice" in names(extra)} == {"recording", "dev"}
    assert "torch" in names() and "sounddevice" not in names()
    importing = {
        path.relative_to(ROOT).as_posix()
        for folder in ("audiomnist", "benchmarks", "caffe", "caffe_proto", "lrp", "recording_scripts")
        for path in (ROOT / folder).rglob("*.py")
        if re.search(r"^\s*(import|from) sounddevice", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert importing == {"audiomnist/recording/sound.py"}


def pins(text, python):
    """{package: version} of a requirements file for a version of Python on Linux."""
    lines = re.sub(r"\s*(--hash|#).*", "", text.replace("\\\n", " ")).splitlines()
    asked = {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": "linux",
             "platform_machine": "x86_64"}  # fmt: skip
    found = [one for one in map(Requirement, filter(None, lines)) if not one.marker or one.marker.evaluate(asked)]
    assert len({one.name for one in found}) == len(found)
    return {one.name: str(one.specifier) for one in found}


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13"])
def test_the_lock_holds_every_pin_and_the_hashes_of_every_file(python):
    lock = (ROOT / "requirements.lock").read_text()
    asked, locked = pins((ROOT / "requirements.txt").read_text(), python), pins(lock, python)
    assert asked.items() <= locked.items() and len(locked) > 2 * len(asked) > 20
    entries = [one for one in re.sub(r"(?m)^#.*\n", "", lock).replace("\\\n", "").splitlines() if one]
    assert all(re.fullmatch(r"\S+==\S+( ; .+?)?( +--hash=sha256:[0-9a-f]{64})+", one) for one in entries)
