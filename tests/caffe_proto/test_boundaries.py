"""Files that others made, read through the one boundary of their kind: a value, or one sentence that names the file."""

import json
import os
import resource
import subprocess
import sys
import threading
from pathlib import Path

import h5py
import numpy as np
import pytest
from google.protobuf import text_format
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caffe_proto import CaffeFileError, array_to_blobproto, caffe_pb2, read_net, read_solver_state, read_weights
from caffe_proto.files import read_binary_net
from caffe_proto.hdf5 import open_hdf5
from caffe_proto.memory import check_memory, memory
from caffe_proto.texts import LONGEST_TOML, read_json, read_record, read_text, read_toml

ROOT = Path(__file__).resolve().parents[2]
WHAT = "a thing of some kind"


def refused(path, got, read):
    """`read` ends with one sentence in the one grammar."""
    with pytest.raises(CaffeFileError) as caught:
        read()
    message = str(caught.value)
    assert message.startswith(f"{path}: expected {WHAT}") and got in message and "\n" not in message, message


def look(path):
    """Everything that there is to see in an HDF5 file."""
    with open_hdf5(path, WHAT) as content:
        seen = {"attributes": content.attributes}
        for name in content.names():
            for ask in (content.numbers, content.text, content.array, content.names, content.__contains__):
                try:
                    seen[name] = ask(name)
                except CaffeFileError as error:
                    seen[name] = str(error)
        return seen


# --- HDF5 ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def whole(tmp_path):
    path = tmp_path / "whole.hdf5"
    with h5py.File(path, "w") as file:
        file.attrs["rate"] = 8000
        file["data"] = np.arange(6, dtype="<f4").reshape(2, 3)
        file["one"], file["text"], file["texts"] = np.int32(7), "söven", ["a", "b"]
        file["fixed"] = np.bytes_("model")
        file["group/inner"] = [1.5]
        file["yes"], file["complex"], file["nothing"] = np.array([True]), np.array([1j]), h5py.Empty("f4")
    return path


def test_what_h5py_wrote_is_read_as_it_is(whole):
    with open_hdf5(whole, WHAT) as content:
        assert content.numbers("data").tolist() == [[0, 1, 2], [3, 4, 5]] and content.numbers("data").dtype == "<f4"
        assert content.numbers("one") == 7 and content.numbers("one").dtype == np.int32
        assert content.numbers("group/inner").tolist() == [1.5] and content.names("group") == ["inner"]
        assert content.text("text") == "söven" and content.text("fixed") == "model"
        assert content.array("texts").tolist() == ["a", "b"] and content.array("texts").dtype == object
        assert content.array("data").dtype == "<f4" and content.array("yes").dtype == bool
        assert sorted(content.names()) == sorted(
            ["data", "one", "text", "texts", "fixed", "group", "yes", "complex", "nothing"]
        )
        assert "data" in content and "group/inner" in content and "group/other" not in content
        assert "data/deeper" not in content and content.attributes == {"rate": 8000}


@pytest.mark.parametrize(
    "ask, name, got",
    [
        ("numbers", "other", "no dataset other (but "),
        ("numbers", "group", "no dataset group"),
        ("numbers", "nothing", "no dataset nothing"),
        ("numbers", "text", "text of type object"),
        ("numbers", "complex", "complex of type complex128"),
        ("numbers", "yes", "yes of type bool"),
        ("text", "data", "data of type float32"),
        ("text", "texts", "texts of shape (2,) instead of a text"),
        ("array", "complex", "complex of type complex128"),
        ("names", "data", "no group data"),
        ("names", "other", "no group other"),
    ],
)
def test_what_is_not_as_it_should_be_is_said(whole, ask, name, got):
    with open_hdf5(whole, WHAT) as content:
        refused(whole, got, lambda: getattr(content, ask)(name))


def test_what_is_no_hdf5_file_is_said(tmp_path):
    text = tmp_path / "text"
    text.write_text("no HDF5")
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path, got in [
        (text, "no readable HDF5 file"), (tmp_path / "none", "no such file"), (tmp_path, "no file"), (fifo, "no file"),
    ]:  # fmt: skip
        refused(path, got, lambda path=path: look(path))


def test_links_stay_within_the_file(tmp_path):
    path, other = tmp_path / "links", tmp_path / "other"
    with h5py.File(other, "w") as file:
        file["secret"] = [1.0]
    with h5py.File(path, "w") as file:
        file["group/data"] = [2.0]
        file["soft"], file["group/relative"] = h5py.SoftLink("/group/data"), h5py.SoftLink("data")
        file["folder"] = h5py.SoftLink("group")
        file["circle"], file["dangling"] = h5py.SoftLink("circle"), h5py.SoftLink("/nowhere")
        file["out"], file["group/out"] = h5py.ExternalLink(str(other), "secret"), h5py.SoftLink("/out")
        file["away"] = h5py.ExternalLink(str(other), "/")
    with open_hdf5(path, WHAT) as content:
        for name in ("soft", "group/relative", "folder/data", "folder/relative"):
            assert content.numbers(name).tolist() == [2.0]
        assert "dangling" not in content
        refused(path, "no dataset dangling", lambda: content.numbers("dangling"))
        refused(path, "circle that is a link without an end", lambda: content.numbers("circle"))
        for name in ("out", "group/out", "away/secret"):
            refused(path, f"that is a link to another file ({other})", lambda name=name: content.numbers(name))
        refused(path, "that is a link to another file", lambda: content.names("away"))
        refused(path, "that is a link to another file", lambda: "out" in content)


def test_numbers_stay_within_the_file(tmp_path):
    raw, path = tmp_path / "raw", tmp_path / "external"
    raw.write_bytes(b"secret!!")
    with h5py.File(path, "w") as file:
        file.create_dataset("raw", (2,), "<f4", external=[(str(raw), 0, 8)])
        layout = h5py.VirtualLayout((3,), "<f4")
        layout[:] = h5py.VirtualSource(str(raw), "data", (3,))
        file.create_virtual_dataset("virtual", layout)
    with open_hdf5(path, WHAT) as content:
        for name in ("raw", "virtual"):
            refused(path, f"{name} that lies in other files", lambda name=name: content.numbers(name))


def test_more_than_there_is_memory_is_refused_before_it_is_asked_for(tmp_path):
    path = tmp_path / "bomb"
    with h5py.File(path, "w") as file:
        file.create_dataset("data", (2**40, 1000), "<f8", chunks=(1, 1000))
    assert path.stat().st_size < 10_000
    with open_hdf5(path, WHAT) as content, pytest.raises(CaffeFileError) as caught:
        content.numbers("data")
    assert str(caught.value) == (
        f"{path}: expected a dataset data that fits into {memory():,} bytes of memory, got 8,796,093,022,208,000 bytes"
    )


def test_memory_is_what_the_limits_leave():
    """As another process finds under `ulimit -v`, and beside what the kernel says of the machine."""
    total = next(int(line.split()[1]) for line in Path("/proc/meminfo").read_text().splitlines() if "MemTotal" in line)
    assert 0 < memory() <= total * 1024
    code = "from caffe_proto.memory import memory; print(memory())"
    limit = 1_500_000_000

    def less():
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, preexec_fn=less, capture_output=True, check=True)
    assert int(told.stdout) == min(limit, memory())
    check_memory(memory(), "place")
    with pytest.raises(CaffeFileError, match=r"place: expected content that fits into .* got .* bytes"):
        check_memory(memory() + 1, "place")


# --- texts -----------------------------------------------------------------------------------------------------------


def test_text_with_and_without_a_mark_and_from_a_pipe(tmp_path):
    path = tmp_path / "text"
    path.write_bytes(b"\xef\xbb\xbfs\xc3\xb6ven\n")
    assert read_text(path, WHAT) == "söven\n"
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=('{"a": [1, 2]}',))
    writer.start()
    assert read_json(pipe, WHAT) == {"a": [1, 2]}
    writer.join()


@pytest.mark.parametrize(
    "read, content, got",
    [
        (read_text, b"ab\xff", "byte 2, which is no UTF-8 text"),
        (read_text, "ä".encode("utf-16"), "byte 0, which is no UTF-8 text"),
        (read_json, b'{"a": 1,\n]', "invalid JSON (line 2: "),
        (read_json, b"[" * 100_000, "JSON that nobody reads ("),
        (read_json, b"1" * 5000, "JSON that nobody reads ("),
        (read_toml, b"a = ", "Invalid value (at end of document)"),
        (read_toml, b"a = " + b"[" * 30_000, "recursion"),
        (read_record, b"[1]", "a JSON list instead of an object"),
    ],
)
def test_text_that_is_none_of_its_kind_is_said(tmp_path, read, content, got):
    path = tmp_path / "text"
    path.write_bytes(content)
    refused(path, got, lambda: read(path, WHAT))


def test_files_that_cannot_be_read_are_said(tmp_path):
    refused(tmp_path / "none", "no such file", lambda: read_text(tmp_path / "none", WHAT))
    refused(tmp_path, "Is a directory", lambda: read_text(tmp_path, WHAT))
    refused("'a\\x00b'", "a name that no file can have", lambda: read_text("a\0b", WHAT))


def test_toml_is_read_and_its_length_is_bounded(tmp_path):
    path = tmp_path / "t.toml"
    path.write_text("[a]\nb = [1, 2]\n")
    assert read_toml(path, WHAT) == {"a": {"b": [1, 2]}}
    path.write_text("#" * LONGEST_TOML)
    assert read_toml(path, WHAT) == {}
    path.write_text("#" * (LONGEST_TOML + 1))
    refused(path, "65,537", lambda: read_toml(path, WHAT))


@pytest.mark.parametrize(
    "value, kinds, got",
    [
        ({"a": 1}, {"b": int}, "an object without 'b'"),
        ({"a": "1"}, {"a": int}, "'a' that is '1'"),
        ({"a": True}, {"a": int}, "'a' that is True"),
        ({"a": None}, {"a": str}, "'a' that is None"),
        ({"a": 1}, {"a": bool}, "'a' that is 1"),
    ],
)
def test_a_record_has_what_it_must(tmp_path, value, kinds, got):
    path = tmp_path / "r.json"
    path.write_text(json.dumps(value))
    refused(path, got, lambda: read_record(path, WHAT, **kinds))
    assert read_record(path, WHAT) == value
    path.write_text(json.dumps({"a": True, "b": 2, "c": [], "d": 1.5}))
    assert read_record(path, WHAT, a=bool, b=int, c=list, d=(int, float)) == json.loads(path.read_text())


# --- damage ----------------------------------------------------------------------------------------------------------


def made(kind, path):
    """A small file of the kind, as the libraries write it."""
    net = text_format.Parse(
        'layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" }', caffe_pb2.NetParameter()
    )
    net.layer[0].blobs.append(array_to_blobproto(np.arange(6).reshape(2, 3)))
    if kind == "hdf5":
        with h5py.File(path, "w") as file:
            file["data/ip/0"], file["data/ip/1"] = np.ones((2, 3), np.float32), np.ones(2)
            file["text"], file["one"] = "a text", 3
            file["soft"] = h5py.SoftLink("/data/ip/0")
            file.attrs["rate"] = 8000
    elif kind == "prototxt":
        path.write_text(text_format.MessageToString(net))
    elif kind == "caffemodel":
        path.write_bytes(net.SerializeToString())
    elif kind == "solverstate":
        state = caffe_pb2.SolverState(iter=3, learned_net="x.caffemodel", current_step=1)
        state.history.append(array_to_blobproto(np.ones(3)))
        path.write_bytes(state.SerializeToString())
    elif kind == "json":
        path.write_text(json.dumps({"folder": "a", "origin": {"engine": "b", "n": [1, 2.5, None]}}))
    elif kind == "toml":
        path.write_text('name = "mine"\n[types]\nConvolution = {rule = "Gamma", gamma = 0.25}\n')
    return path.read_bytes()


READ = {
    "hdf5": [look, read_weights],
    "prototxt": [read_net],
    "caffemodel": [read_binary_net, read_weights],
    "solverstate": [read_solver_state],
    "json": [lambda path: read_record(path, WHAT, folder=str, origin=dict)],
    "toml": [lambda path: read_toml(path, WHAT)],
}
DAMAGE = st.lists(
    st.tuples(st.sampled_from(["set", "cut", "insert", "repeat"]), st.floats(0, 1), st.binary(min_size=1, max_size=8)),
    min_size=1, max_size=6,
)  # fmt: skip


def damaged(content, damage):
    """The content after each damage: bytes overwritten, the end cut off, bytes inserted, a stretch twice."""
    for how, share, some in damage:
        place = int(share * len(content))
        content = {
            "set": content[:place] + some + content[place + len(some) :],
            "cut": content[:place],
            "insert": content[:place] + some + content[place:],
            "repeat": content[: place + 64] + content[place:],
        }[how]
    return content


@pytest.mark.parametrize("kind", READ)
def test_a_damaged_file_is_read_or_refused_in_one_sentence(kind, tmp_path):
    original = made(kind, tmp_path / "original")

    @settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None)
    @given(DAMAGE)
    def check(damage):
        path = tmp_path / "damaged"
        path.write_bytes(damaged(original, damage))
        for read in READ[kind]:
            try:
                read(path)
            except CaffeFileError as error:
                assert str(error) and "\n" not in str(error)

    check()
