"""The one writer: links, devices, pipes, permissions, leftovers, full disks (a limit on file sizes stands in)."""

import errno
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import h5py
import numpy as np
import pytest

from caffe_proto import WriteError, atomic_file, atomic_hdf5, remove_leftovers, write_file
from tests.needs import need

ROOT = Path(__file__).resolve().parents[2]


def leftovers(folder):
    return sorted(folder.rglob(".*.part"))


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_the_file_appears_at_the_end_and_not_before(tmp_path):
    path = tmp_path / "a"
    path.write_text("old")
    with atomic_file(path) as file:
        file.write(b"new")
        assert path.read_text() == "old"
    assert path.read_text() == "new" and not leftovers(tmp_path)


def test_a_failed_block_changes_nothing(tmp_path):
    path = tmp_path / "a"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_file(path) as file:
        file.write(b"new")
        raise ZeroDivisionError
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a"]


def test_a_rename_whose_answer_is_lost_leaves_the_new_file_and_nothing_else(tmp_path, monkeypatch):
    replace = os.replace

    def lost(source, target):
        replace(source, target)
        raise FileNotFoundError(errno.ENOENT, "as NFS says when it is asked a second time")

    monkeypatch.setattr(os, "replace", lost)
    with pytest.raises(WriteError, match=f"{tmp_path}/f: expected a writable folder .*, got as NFS says"):
        write_file(tmp_path / "f", "new")
    assert (tmp_path / "f").read_text() == "new" and not leftovers(tmp_path)


def test_links_are_written_through(tmp_path):
    (tmp_path / "big").mkdir()
    real, link, dangling = tmp_path / "big/real", tmp_path / "link", tmp_path / "dangling"
    real.write_text("old")
    link.symlink_to("big/real")
    dangling.symlink_to("big/other")
    write_file(link, "new")
    write_file(dangling, "made")
    assert link.is_symlink() and real.read_text() == "new"
    assert dangling.is_symlink() and (tmp_path / "big/other").read_text() == "made"


def test_a_loop_of_links_is_one_sentence(tmp_path):
    loop = tmp_path / "loop"
    loop.symlink_to("loop")
    with pytest.raises(WriteError, match="loop: expected a writable folder with free space, got Too many levels"):
        write_file(loop, "x")


def test_permissions_are_those_of_the_file_that_is_replaced(tmp_path):
    path, fresh = tmp_path / "a", tmp_path / "b"
    for bits in (0o600, 0o640, 0o666):
        path.write_text("old")
        path.chmod(bits)
        write_file(path, "new")
        assert mode(path) == bits
    for umask, bits in ((0o027, 0o640), (0, 0o666)):  # of the umask 0: no program, and nothing else that nobody gave
        before = os.umask(umask)
        try:
            write_file(fresh, "new")
        finally:
            os.umask(before)
        assert mode(fresh) == bits
        fresh.unlink()


def test_devices_and_owners_stay(tmp_path):
    need("root", os.geteuid() == 0, "making a device and giving files away needs root")
    null = tmp_path / "null"
    try:
        os.mknod(null, stat.S_IFCHR | 0o666, os.makedev(1, 3))
        null.open("wb").close()
    except OSError:
        need("root", False, "no devices can be made in this container")
    write_file(null, "gone")
    with atomic_hdf5(null) as stream:
        stream.file["x"] = np.zeros(1000)
    assert stat.S_ISCHR(null.lstat().st_mode) and not leftovers(tmp_path)
    theirs = tmp_path / "theirs"
    theirs.write_text("old")
    os.chown(theirs, 1234, 1234)
    write_file(theirs, "new")
    assert (theirs.stat().st_uid, theirs.stat().st_gid) == (1234, 1234)


def test_a_pipe_is_written_into(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for write in (lambda: write_file(pipe, b"text"), lambda: _one_dataset(pipe)):
        read = []
        reader = threading.Thread(target=lambda into=read: into.append(pipe.read_bytes()))
        reader.start()
        write()
        reader.join(20)
        assert stat.S_ISFIFO(pipe.lstat().st_mode) and read[0][:8] in (b"text", b"\x89HDF\r\n\x1a\n")


def _one_dataset(path):
    with atomic_hdf5(path) as stream:
        stream.file["x"] = np.arange(3)


def test_folders_and_missing_folders_are_one_sentence(tmp_path):
    for path, reason in ((tmp_path, "Is a directory"), (tmp_path / "no/a", "No such file")):
        with pytest.raises(WriteError, match=f"{path}: expected a writable folder .*, got {reason}") as caught:
            write_file(path, "x")
        assert "\n" not in str(caught.value)


def test_names_as_long_as_the_file_system_takes_them(tmp_path):
    path = tmp_path / ("n" * 255)
    write_file(path, "x")
    assert path.read_text() == "x"


def test_a_path_without_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_file("a", "x")
    assert os.listdir(tmp_path) == ["a"]


def test_a_link_with_the_name_of_a_leftover_stays(tmp_path):
    """No writer leaves a link: this one is somebody's, and so is what it leads to."""
    mine, folder = tmp_path / "mine", tmp_path / "folder"
    mine.write_text("precious")
    folder.mkdir()
    link = folder / ".0123abcd-4567cdef.part"
    link.symlink_to(mine)
    remove_leftovers(folder)
    assert link.is_symlink() and mine.read_text() == "precious"
    link.unlink()
    link.write_text("of a killed writer")
    remove_leftovers(folder)
    assert list(folder.iterdir()) == []


def test_leftovers_of_killed_writers_go_and_nothing_else(tmp_path):
    (tmp_path / "speaker").mkdir()
    path, other = tmp_path / "speaker/a.hdf5", tmp_path / "speaker/b.hdf5"
    script = (
        "import os, sys, caffe_proto\n"
        "with caffe_proto.atomic_file(sys.argv[1]) as file:\n"
        "    file.write(b'half')\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    for victim in (path, other):
        subprocess.run([sys.executable, "-c", script, victim], cwd=ROOT)
    theirs = [tmp_path / ".movie.part", tmp_path / "a.hdf5.my.tmp", tmp_path / "speaker/.0123abcd-xyz.part"]
    for file in theirs:
        file.write_text("mine")
    assert len(leftovers(tmp_path)) == 4
    with atomic_file(path) as living:  # removes the killed one of this file alone
        living.write(b"whole")
        assert len(leftovers(tmp_path)) == 4
        remove_leftovers(path)  # not the living one
        assert len(leftovers(tmp_path)) == 4
        remove_leftovers(tmp_path)
        assert len(leftovers(tmp_path)) == 3
    assert path.read_bytes() == b"whole" and all(file.read_text() == "mine" for file in theirs)
    assert len(leftovers(tmp_path)) == 2


FULL = """
import resource, signal, sys
import numpy as np
import caffe_proto
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
rng = np.random.default_rng(0)
try:
    with caffe_proto.atomic_hdf5(sys.argv[1]) as stream:
        for k in range(30):
            stream.file[f"data/layer {k}/0"] = rng.random(700 + k, dtype="f4")
        grown = stream.file.create_dataset("grown", (0, 50, 50), "f4", maxshape=(None, 50, 50), chunks=(1, 50, 50))
        for _ in range(8):
            grown.resize(len(grown) + 4, axis=0)
            grown[-4:] = rng.random((4, 50, 50), dtype="f4")
            if len(sys.argv) > 3:
                stream.check()
        stream.file.attrs["about"] = "a text" * 500
except caffe_proto.WriteError as error:
    sys.exit(f"one sentence: {error}")
"""


def _fill(path, limit, *check):
    return subprocess.run(
        [sys.executable, "-c", FULL, path, str(limit), *check],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )


def test_hdf5_on_a_full_disk_is_one_sentence_at_any_size(tmp_path):
    path = tmp_path / "a.hdf5"
    assert _fill(path, 1 << 30).returncode == 0
    size, whole = path.stat().st_size, path.read_bytes()
    with h5py.File(path) as file:
        numbers = np.random.default_rng(0)
        for k in range(30):
            np.testing.assert_array_equal(file[f"data/layer {k}/0"][()], numbers.random(700 + k, dtype="f4"))
        np.testing.assert_array_equal(file["grown"][()], numbers.random((32, 50, 50), dtype="f4"))
    for limit in (*np.linspace(0, size - 1, 12, dtype=int), size - 1, size - 4096, 96, 2048):
        for check in ((), ("check",))[: 1 + limit % 2]:
            failed = _fill(path, limit, *check)
            assert failed.returncode == 1, (limit, failed.stderr)
            assert failed.stderr.startswith(
                f"one sentence: {path}: expected a writable folder with free space, got File too large"
            ), failed.stderr
            assert failed.stderr.count("\n") == 1
    assert path.read_bytes() == whole and os.listdir(tmp_path) == ["a.hdf5"]
    assert _fill(path, size).returncode == 0


# -- the commands ---------------------------------------------------------------------------------------------------
LIMITED = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from {module} import main
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit},) * 2)
sys.exit(main(sys.argv[1:]))
"""


def _limited(module, limit, folder, *arguments):
    return subprocess.run(
        [sys.executable, "-c", LIMITED.format(module=module, limit=limit), *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


NET = """name: "one"
layer { name: "x" type: "DummyData" top: "x" dummy_data_param { shape { dim: 4 dim: 50 } } }
layer { name: "w" type: "InnerProduct" bottom: "x" top: "w"
  inner_product_param { num_output: 100 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "Reduction" bottom: "w" top: "loss" loss_weight: 1 }
"""
SOLVER = 'net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed" max_iter: 2 snapshot: 1 snapshot_prefix: "s" '
DEPLOY = 'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 50 } } }' + NET.split("\n", 2)[2]


@pytest.fixture
def trained(tmp_path):
    """A folder with net.prototxt, solver.prototxt, deploy.prototxt, one.hdf5 and HDF5 snapshots of two iterations."""
    (tmp_path / "net.prototxt").write_text(NET)
    (tmp_path / "deploy.prototxt").write_text(DEPLOY[: DEPLOY.index('layer { name: "loss"')])
    (tmp_path / "solver.prototxt").write_text(SOLVER + "snapshot_format: HDF5")
    with h5py.File(tmp_path / "one.hdf5", "w") as file:
        file["data"] = np.ones((1, 50), np.float32)
    done = _limited("caffe.cli", -1, tmp_path, "train", "-solver=solver.prototxt")
    assert done.returncode == 0, done.stderr
    return tmp_path


@pytest.mark.slow
def test_hdf5_snapshots_on_a_full_disk_are_one_sentence(trained):
    before = {path.name: path.read_bytes() for path in trained.glob("s_iter_*")}
    size = len(before["s_iter_2.solverstate.h5"])
    for limit in (1, 3000, size // 2, size - 1):
        failed = _limited("caffe.cli", limit, trained, "train", "-solver=solver.prototxt")
        assert failed.returncode == 134, (limit, failed.returncode, failed.stderr)
        fatal = [line for line in failed.stderr.splitlines() if line.startswith("F")]
        assert len(fatal) == 1 and "expected files that can be written, got File too large" in fatal[0], failed.stderr
        assert "Traceback" not in failed.stderr and not leftovers(trained)
    assert before["s_iter_1.solverstate.h5"] == (trained / "s_iter_1.solverstate.h5").read_bytes()


def test_relevance_on_a_full_disk_is_one_sentence(trained):
    arguments = ("--model", "deploy.prototxt", "--weights", "s_iter_2.caffemodel.h5", "--input", "one.hdf5", "--save")
    assert _limited("audiomnist.explain.cli", -1, trained, *arguments, "r.hdf5").returncode == 0
    whole = (trained / "r.hdf5").read_bytes()
    for limit in (1, 2000, len(whole) // 2, len(whole) - 1):
        failed = _limited("audiomnist.explain.cli", limit, trained, *arguments, "r.hdf5")
        assert failed.returncode == 1, (limit, failed.returncode, failed.stderr)
        assert (
            failed.stderr.strip().splitlines()[-1]
            == "lrp: r.hdf5: expected a writable folder with free space, got File too large"
        )
        assert "Traceback" not in failed.stderr and not leftovers(trained)
    assert (trained / "r.hdf5").read_bytes() == whole


def test_relevance_is_saved_through_links_and_into_pipes(trained):
    arguments = ("--model", "deploy.prototxt", "--weights", "s_iter_2.caffemodel.h5", "--input", "one.hdf5", "--save")
    (trained / "link").symlink_to("real.hdf5")
    assert _limited("audiomnist.explain.cli", -1, trained, *arguments, "link").returncode == 0
    os.mkfifo(trained / "pipe")
    read = []
    reader = threading.Thread(target=lambda: read.append((trained / "pipe").read_bytes()))
    reader.start()
    assert _limited("audiomnist.explain.cli", -1, trained, *arguments, "pipe").returncode == 0
    reader.join(20)
    assert (trained / "link").is_symlink() and stat.S_ISFIFO((trained / "pipe").lstat().st_mode)
    (trained / "piped.hdf5").write_bytes(read[0])
    with h5py.File(trained / "real.hdf5") as real, h5py.File(trained / "piped.hdf5") as piped:
        assert sorted(real) == sorted(piped)
        np.testing.assert_array_equal(real["relevance"][()], piped["relevance"][()])
