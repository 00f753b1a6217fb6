"""caffe.io: the original's results (golden/pycaffe, with its recipe), identities, and errors."""

from pathlib import Path

import numpy as np
import pycaffe_cases
import pytest

import caffe.io
from caffe.proto import caffe_pb2
from caffe_proto import caffe_pb2 as schema

HERE = Path(__file__).resolve().parents[1]
IMAGES = HERE / "golden/pycaffe/images"
GOLDEN = np.load(HERE / "golden/pycaffe/arrays.npz")
# float32 interpolation of values below 10 in another order of operations
TOLERANCE = {"resizes": 5e-6, "transformed": 1e-5, "loaded_images": 1e-7}


@pytest.mark.parametrize("case", pycaffe_cases.IO)
def test_result_is_the_originals(case):
    made = pycaffe_cases.IO[case](str(IMAGES))
    wanted = {key.split(" ", 1)[1]: GOLDEN[key] for key in GOLDEN if key.startswith(f"{case} ")}
    assert set(made) == set(wanted) and wanted
    for name, array in made.items():
        assert array.shape == wanted[name].shape and array.dtype == wanted[name].dtype, name
        scale = max(1, np.abs(wanted[name]).max())
        np.testing.assert_allclose(array, wanted[name], rtol=0, atol=TOLERANCE.get(case, 0) * scale, err_msg=name)


def test_messages_are_one_module():
    import caffe.proto.caffe_pb2 as by_path

    assert caffe_pb2 is schema and by_path is schema


def test_preprocess_leaves_the_callers_array_alone():
    image = pycaffe_cases.random_image(0, 6, 5, 3)
    before = image.copy()
    made = pycaffe_cases.transformer(**pycaffe_cases.TRANSFORMERS["all"])
    first = made.preprocess("data", image)
    assert np.array_equal(image, before)
    assert np.array_equal(made.preprocess("data", image), first)


@pytest.mark.parametrize("name", pycaffe_cases.TRANSFORMERS)
@pytest.mark.parametrize("channels", [1, 3])
def test_deprocess_inverts_preprocess(name, channels):
    settings = dict(pycaffe_cases.TRANSFORMERS[name])
    if channels == 1:
        settings.pop("channel_swap", None)
        if "mean" in settings:
            settings["mean"] = settings["mean"][:1]
    made = caffe.io.Transformer({"data": (2, channels, 6, 5)})
    for key, value in settings.items():
        getattr(made, f"set_{key}")("data", value)
    image = pycaffe_cases.random_image(1, 6, 5, channels)
    back = made.deprocess("data", made.preprocess("data", image))
    np.testing.assert_allclose(back.reshape(image.shape), image, atol=1e-5)


def test_a_mean_without_channels_is_subtracted_from_each():
    made = pycaffe_cases.transformer(transpose=(2, 0, 1), mean=pycaffe_cases.random_image(6, 6, 5))
    image = pycaffe_cases.random_image(7, 6, 5, 3)
    wanted = image.transpose(2, 0, 1) - pycaffe_cases.random_image(6, 6, 5)
    np.testing.assert_array_equal(made.preprocess("data", image), wanted)


def test_transformer_refuses_what_does_not_fit():
    made = caffe.io.Transformer({"data": (1, 3, 6, 5)})
    with pytest.raises(Exception, match="other is not one of the net inputs"):
        made.preprocess("other", np.zeros((6, 5, 3)))
    with pytest.raises(Exception, match="same number of dimensions as the input"):
        made.set_transpose("data", (1, 0))
    with pytest.raises(Exception, match="same number of dimensions as the input channels"):
        made.set_channel_swap("data", (1, 0))
    with pytest.raises(ValueError, match="Mean channels incompatible"):
        made.set_mean("data", np.zeros(2))
    with pytest.raises(ValueError, match="Mean channels incompatible"):
        made.set_mean("data", np.zeros((2, 6, 5)))
    with pytest.raises(ValueError, match="Mean shape invalid"):
        made.set_mean("data", np.zeros((1, 3, 6, 5)))


def test_messages_refuse_what_does_not_fit():
    with pytest.raises(ValueError, match="got 2 numbers"):
        caffe.io.blobproto_to_array(caffe_pb2.BlobProto(data=[1, 2]))
    with pytest.raises(ValueError, match="Incorrect array shape"):
        caffe.io.array_to_datum(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="encoded image"):
        caffe.io.datum_to_array(caffe_pb2.Datum(channels=1, height=1, width=1, data=b"x", encoded=True))
    assert not caffe.io.array_to_datum(np.zeros((1, 1, 1))).HasField("label")
    assert caffe.io.array_to_datum(np.zeros((1, 1, 1)), 0).HasField("label")


def test_images_that_are_missing_or_none_are_errors(tmp_path):
    with pytest.raises(FileNotFoundError):
        caffe.io.load_image(str(tmp_path / "none.png"))
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(OSError, match="text.png"):
        caffe.io.load_image(str(tmp_path / "text.png"))


def test_resizing_is_scikit_images():
    """A second library, where it is installed: the golden file holds what its version 0.18 gave to the original."""
    resize = pytest.importorskip("skimage.transform", reason="NOT COMPARED with scikit-image: not installed").resize
    for seed, (shape, dims) in enumerate([((31, 17, 3), (8, 40)), ((5, 6, 1), (11, 3)), ((20, 20, 3), (19, 21))]):
        image = pycaffe_cases.random_image(seed, *shape)
        low, high = image.min(), image.max()
        wanted = resize((image - low) / (high - low), dims, order=1, mode="constant") * (high - low) + low
        np.testing.assert_allclose(caffe.io.resize_image(image, dims), wanted, atol=1e-5)
