"""Weights read from files that h5py and protobuf wrote, and arrays as protobuf has them."""

import h5py
import numpy as np
import pytest

from caffe_proto import CaffeFileError, array_to_blobproto, blobproto_to_array, caffe_pb2, read_weights


def test_hdf5_weights_by_layer_and_index(tmp_path):
    """Index 1 alone leaves a hole at 0 (a blob that another layer shares); a layer without blobs has none."""
    path = tmp_path / "w.caffemodel.h5"
    values = np.arange(12, dtype=np.float64).reshape(3, 4)
    with h5py.File(path, "w") as file:
        file["data/ip/0"], file["data/ip/10"] = values, values[0]
        file["data/bias/1"] = values[1]
        file.create_group("data/relu")
    found = read_weights(str(path))
    assert set(found) == {"ip", "bias", "relu"} and found["relu"] == []
    assert len(found["ip"]) == 11 and found["ip"][1:10] == [None] * 9
    np.testing.assert_array_equal(found["ip"][0], values)
    np.testing.assert_array_equal(found["ip"][10], values[0])
    assert found["bias"][0] is None and found["bias"][1].tolist() == [4, 5, 6, 7]
    assert found["ip"][0].dtype == np.float32


@pytest.mark.parametrize("legacy", [False, True])
def test_binary_weights_by_layer(tmp_path, legacy):
    net = caffe_pb2.NetParameter()
    blob = net.layer.add(name="ip", type="InnerProduct").blobs.add(data=[1, 2, 3, 4, 5, 6])
    if legacy:
        blob.num, blob.channels, blob.height, blob.width = 1, 1, 2, 3
    else:
        blob.shape.dim.extend([2, 3])
    path = tmp_path / "w.caffemodel"
    path.write_bytes(net.SerializeToString())
    (found,) = read_weights(str(path))["ip"]
    assert found.shape == ((1, 1, 2, 3) if legacy else (2, 3)) and found.ravel().tolist() == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("value, count", [(np.nan, 1), (np.inf, 2)])
def test_weights_that_are_not_finite_are_counted(tmp_path, value, count):
    path = tmp_path / "w.h5"
    with h5py.File(path, "w") as file:
        file["data/ip/0"] = np.ones(3)
        file["data/ip/1"] = np.r_[np.ones(5 - count), [value] * count]
    with pytest.raises(CaffeFileError, match=f"w.h5: layer ip: blob 1: .*{count} of 5 that are NaN or infinite"):
        read_weights(str(path))


@pytest.mark.parametrize("count", [0, 1, 31, 32, 4095, 4096, 600_000])  # around the lengths that take a byte more
def test_an_array_as_a_blob_is_what_protobuf_itself_makes_of_it(count):
    values = np.random.default_rng(count).standard_normal((count, 1))
    found = array_to_blobproto(values, diff=-values[::-1])
    wanted = caffe_pb2.BlobProto(data=values.ravel().tolist(), diff=(-values[::-1]).ravel().tolist())
    wanted.shape.dim.extend([count, 1])
    assert found == wanted and found.SerializeToString() == wanted.SerializeToString()
    assert not array_to_blobproto(values).diff


@pytest.mark.parametrize(
    "shape, words",
    [
        ((-4, -16), "at most 32 axes of length >= 0, got shape (-4, -16)"),
        ((1,) * 33, "at most 32 axes of length >= 0"),
        ((2**35, 2**35), "the numbers of a blob of shape (34359738368, 34359738368), got 64 numbers"),  # 0 in 64 bits
        ((2**32, 2**32, 64), "got 64 numbers"),
    ],
)
def test_a_blob_whose_shape_is_none_is_refused(shape, words):
    blob = caffe_pb2.BlobProto(data=[0] * 64)
    blob.shape.dim.extend(shape)
    with pytest.raises(CaffeFileError) as caught:
        blobproto_to_array(blob, "w.caffemodel: layer ip")
    assert str(caught.value).startswith("w.caffemodel: layer ip: expected ") and words in str(caught.value)
