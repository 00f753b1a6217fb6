"""Layer types against the original Caffe's numbers (tests/golden/layers, made by tests/parity/golden.py)."""

import functools

import numpy as np
import pytest
import torch
from google.protobuf import text_format

import caffe
from caffe import mode
from caffe.blob import Blob
from caffe.errors import CaffeError
from caffe.layer import LAYERS
from caffe.layer_factory import layer_type_list, make_layer
from caffe_proto import caffe_pb2
from tests.caffe.gradient_check import check_example
from tests.needs import need
from tests.parity import engine
from tests.parity.cases import CASES, GRADIENT_DIFFERS, cases_of
from tests.parity.compare import LAYER_TOLERANCE, differences
from tests.parity.golden import FOLDER, unpack

GOLDEN = cases_of("golden")
IMAGES = [case for case in GOLDEN if any(len(shape) == 4 for shape, _ in case.inputs)]

# Types whose tests are elsewhere: they make or store data, run the user's code, or have no top to compare.
IMAGES_AND_ROWS = {"Data", "HDF5Data", "ImageData", "MemoryData", "WindowData"}
TESTED_ELSEWHERE = IMAGES_AND_ROWS | {"DummyData", "HDF5Output", "Input", "Python", "Silence"}


@functools.cache
def golden(type):
    return unpack(FOLDER / f"{type}.npz")


def wanted(case):
    prefix = case.name + "/"
    return {name[len(prefix) :]: array for name, array in golden(case.type).items() if name.startswith(prefix)}


CUDA_TOLERANCES = dict.fromkeys(("Convolution", "Deconvolution"), 3e-5)  # cuDNN may transform (Winograd, Fourier)


def key(case):
    return case.key


@pytest.mark.parametrize("case", GOLDEN, ids=key)
def test_equals_the_original(case):
    assert not differences(engine.run(case), wanted(case), LAYER_TOLERANCE)


@pytest.mark.parametrize("case", IMAGES, ids=key)
def test_equals_the_original_in_channels_last_memory(case):
    def store(blob, array, field):
        tensor = torch.from_numpy(array)
        if array.ndim == 4:
            tensor = tensor.contiguous(memory_format=torch.channels_last)
        setattr(blob, {"data": "value", "diff": "grad"}[field], tensor)

    assert not differences(engine.run(case, store), wanted(case), LAYER_TOLERANCE)


@pytest.mark.cuda
@pytest.mark.parametrize("case", GOLDEN, ids=key)
def test_equals_the_original_on_cuda(case):
    need("cuda", torch.cuda.is_available(), "NOT COMPARED on CUDA: no CUDA device here")
    caffe.set_mode_gpu()
    try:
        found = engine.run(case)
    finally:
        caffe.set_mode_cpu()
    assert not differences(found, wanted(case), CUDA_TOLERANCES.get(case.type, LAYER_TOLERANCE))


def test_every_layer_type_of_the_original_is_compared():
    original = set((FOLDER / "types.txt").read_text().split())
    assert original <= set(LAYERS)
    assert set(layer_type_list()) & original - TESTED_ELSEWHERE == set(CASES)
    assert {path.stem for path in FOLDER.glob("*.npz")} == set(CASES)
    assert {case.type for case in GOLDEN} == set(CASES)


@pytest.mark.parametrize("type", sorted(CASES))
def test_golden_file_has_the_cases(type):
    assert {name.rsplit("/", 2)[0] for name in golden(type)} == {case.name for case in cases_of("golden", [type])}


# -- what the original cannot show -----------------------------------------------------------------------------------
def layer_of(text, phase=caffe_pb2.TRAIN):
    param = caffe_pb2.LayerParameter(name="layer")
    text_format.Parse(text, param)
    return make_layer(param, phase, mode.CONTEXT)


def blob_of(array):
    array = np.asarray(array, np.float32)
    blob = Blob(array.shape)
    blob.data[...] = array
    return blob


def forward(text, *arrays, tops=1, in_place=False, phase=caffe_pb2.TRAIN):
    """(layer, bottoms, tops) after a forward pass of the layer on arrays."""
    layer, bottom = layer_of(text, phase), [blob_of(array) for array in arrays]
    top = bottom[:1] if in_place else [Blob() for _ in range(tops)]
    layer.setup(bottom, top)
    layer.reshape(bottom, top)
    layer.forward(bottom, top)
    return layer, bottom, top


SLOPES = {  # text: (value, derivative) in float64
    'type: "Power" power_param { power: 3 scale: 0.5 shift: 2 }': (
        lambda x: (2 + 0.5 * x) ** 3,
        lambda x: 1.5 * (2 + 0.5 * x) ** 2,
    ),
    'type: "Power" power_param { power: 2 scale: 2 shift: 1 }': (lambda x: (1 + 2 * x) ** 2, lambda x: 4 * (1 + 2 * x)),
    'type: "Power" power_param { scale: 0.05 shift: 3 }': (lambda x: 0.05 * x + 3, lambda x: 0.05 + 0 * x),
    'type: "Power" power_param { power: 0 }': (lambda x: x**0, lambda x: 0 * x),
    'type: "Log"': (np.log, lambda x: 1 / x),
    'type: "Log" log_param { base: 2 scale: 3 shift: 1 }': (
        lambda x: np.log2(3 * x + 1),
        lambda x: 3 / np.log(2) / (3 * x + 1),
    ),
}


@pytest.mark.parametrize("text", SLOPES)
def test_gradient_in_place_where_the_original_has_none(text):
    assert any(text.split('"')[1] + " in place" == name for name in GRADIENT_DIFFERS)
    x, dy = np.random.default_rng(1).uniform(0.5, 3, (2, 4, 5))
    value, slope = SLOPES[text]
    layer, bottom, top = forward(text, x, in_place=True)
    np.testing.assert_allclose(top[0].data, value(np.float64(x)), rtol=1e-5)
    top[0].diff[...] = dy
    layer.backward(top, [True], bottom)
    np.testing.assert_allclose(bottom[0].diff, dy * slope(np.float64(x)), rtol=1e-5)


def test_softmax_loss_second_top_is_the_probability():
    scores = np.random.default_rng(2).normal(size=(3, 4, 2))
    _, _, top = forward('type: "SoftmaxWithLoss"', scores, np.zeros((3, 2)), tops=2)
    probability = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    np.testing.assert_allclose(top[1].data, probability, rtol=1e-5)
    np.testing.assert_allclose(top[0].data, -np.log(probability[:, 0]).mean(), rtol=1e-5)


def test_silence_gives_zero_gradients():
    layer, bottom, top = forward('type: "Silence"', np.ones((2, 3)), np.ones(4), tops=0)
    bottom[0].diff[...] = bottom[1].diff[...] = 7
    layer.backward(top, [True, False], bottom)
    assert (bottom[0].diff == 0).all()
    assert (bottom[1].diff == 7).all()


@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.8])
@pytest.mark.parametrize("in_place", [False, True])
def test_dropout_in_training(ratio, in_place):
    mode.set_random_seed(3)
    ones = np.ones((200, 500))
    text = f'type: "Dropout" dropout_param {{ dropout_ratio: {ratio} }}'
    layer, bottom, top = forward(text, ones, in_place=in_place)
    y = top[0].data.copy()
    kept = y != 0
    np.testing.assert_allclose(y[kept], 1 / (1 - ratio), rtol=1e-6)
    deviation = np.sqrt(ratio * (1 - ratio) / ones.size)
    assert abs(kept.mean() - (1 - ratio)) < 5 * deviation
    assert np.abs(np.corrcoef(kept[:, 0], kept[:, 1])[0, 1]) < 0.4  # neighbours are drawn independently
    top[0].diff[...] = 2
    layer.backward(top, [True], bottom)
    np.testing.assert_array_equal(bottom[0].diff, 2 * y)  # the same elements, the same factor
    if not in_place:
        layer.forward(bottom, top)
        assert ((top[0].data != 0) != kept).any(), "every forward pass draws its own mask"
    mode.set_random_seed(3)
    np.testing.assert_array_equal(forward(text, ones, in_place=in_place)[2][0].data, y)


def test_dropout_without_loss_in_testing():
    x = np.random.default_rng(4).normal(size=(3, 4))
    layer, bottom, top = forward('type: "Dropout"', x, phase=caffe_pb2.TEST)
    top[0].value.zero_()
    np.testing.assert_array_equal(bottom[0].data, np.float32(x))  # the top is a copy, not the bottom's memory


def pooled_by_loops(x, method, kernel, stride, pad):
    """(values, mask) of Caffe's pooling of x (N, C, H, W) as docs/engine.md section 2.2 has it, window by window."""
    sizes = x.shape[2:]
    out = [-(-(n + 2 * pad - kernel) // stride) + 1 for n in sizes]
    if pad:
        out = [o - 1 if (o - 1) * stride >= n + pad else o for o, n in zip(out, sizes, strict=True)]
    values, mask = np.zeros((*x.shape[:2], *out)), np.zeros((*x.shape[:2], *out))
    for n, c, i, j in np.ndindex(*values.shape):
        first = [k * stride - pad for k in (i, j)]
        last = [min(f + kernel, size + pad) for f, size in zip(first, sizes, strict=True)]
        area = (last[0] - first[0]) * (last[1] - first[1])
        places = [
            (h, w) for h in range(*clip(first[0], last[0], sizes[0])) for w in range(*clip(first[1], last[1], sizes[1]))
        ]
        inside = [x[n, c, h, w] for h, w in places]
        values[n, c, i, j] = sum(inside) / area if method == "AVE" else max(inside)
        h, w = places[int(np.argmax(inside))]
        mask[n, c, i, j] = h * sizes[1] + w
    return values, mask


def clip(first, last, size):
    return max(first, 0), min(last, size)


@pytest.mark.parametrize("kernel, stride, pad", [(3, 1, 2), (3, 2, 2), (4, 3, 3), (3, 2, 1), (3, 2, 0), (2, 2, 0)])
def test_the_mask_of_max_pooling_counts_in_the_image(kernel, stride, pad):
    """Also with a padding that torch does not do itself (more than half a kernel), where it pools a larger plane."""
    x = np.random.default_rng(6).permutation(2 * 2 * 7 * 8).reshape(2, 2, 7, 8).astype(np.float32)
    text = f'type: "Pooling" pooling_param {{ pool: MAX kernel_size: {kernel} stride: {stride} pad: {pad} }}'
    _, _, top = forward(text, x, tops=2)
    values, mask = pooled_by_loops(x, "MAX", kernel, stride, pad)
    assert np.array_equal(top[0].data, values) and np.array_equal(top[1].data, mask)


AVERAGES = {  # settings of AVE pooling: kernel (None: the whole image), stride, pad
    "global_pooling: true": (None, 1, 0),
    "kernel_size: 3 stride: 2 pad: 1": (3, 2, 1),
    "kernel_size: 3 stride: 2": (3, 2, 0),
}


@pytest.mark.parametrize("settings", AVERAGES)
def test_average_pooling_divides_by_the_area_of_the_image_at_hand(settings):
    """A net that is reshaped pools images of other sizes with the same layer."""
    kernel, stride, pad = AVERAGES[settings]
    layer = top = None
    for size in (6, 4, 7, 6):
        x = np.random.default_rng(size).integers(0, 9, (2, 3, size, size)).astype(np.float32)
        bottom = [blob_of(x)]
        if layer is None:
            layer, top = layer_of(f'type: "Pooling" pooling_param {{ pool: AVE {settings} }}'), [Blob()]
            layer.setup(bottom, top)
        layer.reshape(bottom, top)
        layer.forward(bottom, top)
        wanted, _ = pooled_by_loops(x, "AVE", kernel or size, stride, pad)
        np.testing.assert_allclose(top[0].data, wanted, rtol=1e-6)


# -- stochastic pooling, which the original has on GPUs alone --------------------------------------------------------
STOCHASTIC = 'type: "Pooling" pooling_param { pool: STOCHASTIC %s }'
WINDOWS = [  # settings, sizes of the image, kernel, stride
    ("kernel_size: 2 stride: 2", (6, 4), (2, 2), (2, 2)),
    ("kernel_size: 3 stride: 2", (6, 7), (3, 3), (2, 2)),
    ("kernel_h: 1 kernel_w: 3 stride: 1", (2, 5), (1, 3), (1, 1)),
    ("global_pooling: true", (3, 4), (3, 4), (1, 1)),
    ("kernel_size: 3 stride: 2 round_mode: FLOOR", (6, 8), (3, 3), (2, 2)),
]


def windows_by_loops(shape, top_shape, kernel, stride):
    """Yield (index into the top, list of indices into the bottom) of every window, in row order."""
    for n, c, i, j in np.ndindex(*top_shape):
        rows = range(i * stride[0], min(i * stride[0] + kernel[0], shape[2]))
        columns = range(j * stride[1], min(j * stride[1] + kernel[1], shape[3]))
        yield (n, c, i, j), [(n, c, h, w) for h in rows for w in columns]


@pytest.mark.parametrize(("settings", "sizes", "kernel", "stride"), WINDOWS, ids=[w[0] for w in WINDOWS])
def test_stochastic_pooling_in_testing_is_the_mean_weighted_by_the_values(settings, sizes, kernel, stride):
    rng = np.random.default_rng(7)
    x = rng.uniform(0, 2, (2, 3, *sizes)) * rng.integers(0, 2, (2, 3, *sizes))
    x[0, 0] = 0
    layer, bottom, top = forward(STOCHASTIC % settings, x, phase=caffe_pb2.TEST)
    dy = rng.normal(size=top[0].data.shape)
    wanted, dx = np.zeros(dy.shape), np.zeros(x.shape)
    for place, inside in windows_by_loops(x.shape, dy.shape, kernel, stride):
        values = np.array([x[i] for i in inside])
        if values.sum() > 0:
            wanted[place] = (values**2).sum() / values.sum()
            for i in inside:
                dx[i] += dy[place] * (2 * x[i] * values.sum() - (values**2).sum()) / values.sum() ** 2
    np.testing.assert_allclose(top[0].data, wanted, rtol=1e-5, atol=1e-6)
    top[0].diff[...] = dy
    layer.backward(top, [True], bottom)
    np.testing.assert_allclose(bottom[0].diff, dx, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("settings", "sizes", "kernel", "stride"), WINDOWS, ids=[w[0] for w in WINDOWS])
def test_stochastic_pooling_in_training_takes_an_element_and_gives_it_the_gradient(settings, sizes, kernel, stride):
    rng = np.random.default_rng(8)
    x = np.float32(rng.permutation(2 * 3 * sizes[0] * sizes[1]).reshape(2, 3, *sizes))  # one of them is 0
    layer, bottom, top = forward(STOCHASTIC % settings, x)
    dy = rng.integers(1, 9, top[0].data.shape)
    top[0].diff[...] = dy
    layer.backward(top, [True], bottom)
    dx = np.zeros(x.shape)
    for place, inside in windows_by_loops(x.shape, dy.shape, kernel, stride):
        drawn = [i for i in inside if x[i] == top[0].data[place]]
        assert len(drawn) == 1 and x[drawn[0]] > 0
        dx[drawn[0]] += dy[place]
    np.testing.assert_array_equal(bottom[0].diff, dx)


def test_stochastic_pooling_draws_like_the_values_with_a_seed():
    x = np.tile(np.float32([0, 1, 3, 6]), (100, 200, 1)).reshape(100, 200, 1, 4)
    text = STOCHASTIC % "kernel_h: 1 kernel_w: 4"
    mode.set_random_seed(5)
    layer, bottom, top = forward(text, x)
    first = top[0].data.copy()
    for value, share in ((0, 0), (1, 0.1), (3, 0.3), (6, 0.6)):
        assert abs((first == value).mean() - share) < 5 * np.sqrt(share * (1 - share) / first.size) + 1e-12
    layer.forward(bottom, top)
    assert (top[0].data != first).any()
    mode.set_random_seed(5)
    np.testing.assert_array_equal(forward(text, x)[2][0].data, first)
    zeros = forward(text, 0 * x)[2][0].data
    assert not zeros.any()


REFUSED = [  # text, shapes (or arrays) of the bottoms, what the message must name
    ('type: "SoftmaxWithLoss"', [(3, 4), [0, 4, 1]], "expected 0..3, got label 4 at item 1"),
    ('type: "SoftmaxWithLoss"', [(3, 4), [0, 1, -2]], "expected 0..3, got label -2 at item 2"),
    (
        'type: "SoftmaxWithLoss"',
        [(2, 4, 3), [[0, 1, 2], [0, 9, 0]]],
        "got label 9 at item 1, position 1",
    ),
    (
        'type: "SoftmaxWithLoss" loss_param { ignore_label: -1 }',
        [(2, 4), [-1, 4]],
        "expected 0..3, got label 4 at item 1",
    ),
    ('type: "SoftmaxWithLoss"', [(3, 4), (2,)], "same first dimension"),
    ('type: "SoftmaxWithLoss"', [(3, 4), (3, 2)], "Number of labels must match number of predictions"),
    ('type: "SoftmaxWithLoss" softmax_param { axis: 2 }', [(3, 4), (3,)], "axis 2 out of range"),
    ('type: "Accuracy"', [(3, 4), [0, 1, 4]], "expected 0..3, got label 4 at item 2"),
    ('type: "Accuracy" accuracy_param { top_k: 5 }', [(3, 4), (3,)], "top_k must be less than or equal"),
    ('type: "HingeLoss"', [(3, 4), [0, 1, 4]], "expected 0..3, got label 4"),
    ('type: "HingeLoss"', [(3, 4), (3, 2)], "expected 3 labels, one for each item, got 6"),
    ('type: "MultinomialLogisticLoss"', [(3, 4), [0, 1, 4]], "expected 0..3, got label 4"),
    ('type: "InfogainLoss"', [(3, 4), (3,), (3, 3)], "expected an infogain matrix of 4 x 4, got 9 elements"),
    ('type: "InfogainLoss"', [(3, 4), (3,)], "Infogain matrix source must be specified"),
    ('type: "InfogainLoss" infogain_loss_param { source: "nowhere" }', [(3, 4), (3,)], "nowhere"),
    ('type: "InfogainLoss" loss_param { normalize: true }', [(3, 4), (3,), (4, 4)], "normalize is deprecated"),
    ('type: "SigmoidCrossEntropyLoss"', [(3, 4), (3,)], "must have the same count"),
    ('type: "EuclideanLoss"', [(3, 4), (3, 5)], "Inputs must have the same dimension"),
    ('type: "ContrastiveLoss"', [(3, 4), (3, 4), (2,)], "expected 3 labels, got 2"),
    ('type: "PReLU"', [(3,)], "Number of axes of bottom blob must be >=2"),
    ('type: "Exp" exp_param { base: 0 }', [(3,)], "base must be strictly positive"),
    ('type: "Log" log_param { base: -2 }', [(3,)], "base must be strictly positive"),
    ('type: "Log" log_param { base: 1 }', [(3,)], "expected a base other than 1"),
    ('type: "Dropout" dropout_param { dropout_ratio: 1 }', [(3,)], "expected 0 <= dropout_ratio < 1, got 1"),
    ('type: "Clip" clip_param { min: 2 max: 1 }', [(3,)], "expected min < max, got min 2, max 1"),
    ('type: "Softmax" softmax_param { axis: 2 }', [(3, 4)], "axis 2 out of range for 2-D Blob with shape 3 4 (12)"),
    ('type: "Concat"', [(3, 4), (2, 4)], "same shape, except at concat_axis"),
    ('type: "Concat"', [(3, 4), (3, 4, 1)], "same #axes"),
    ('type: "Concat" concat_param { axis: 1 concat_dim: 1 }', [(3, 4), (3, 4)], "not both"),
    ('type: "Slice" slice_param { axis: 1 slice_dim: 1 }', [(3, 4)], "not both"),
    (
        'type: "Slice" slice_param { slice_point: 1 slice_point: 2 }',
        [(3, 4)],
        "0 slice points for 1 tops, got 2",
    ),
    ('type: "Eltwise"', [(3, 4), (4, 3)], "bottom[1]: 4 3 (12)"),
    ('type: "Eltwise" eltwise_param { coeff: 1 }', [(3,), (3,)], "one coefficient per bottom"),
    ('type: "Eltwise" eltwise_param { operation: PROD coeff: 1 coeff: 1 }', [(3,), (3,)], "only takes coefficients"),
    ('type: "Flatten" flatten_param { axis: 2 end_axis: 1 }', [(2, 3, 4)], "axis 2 behind end_axis 1"),
    ('type: "Reshape" reshape_param { shape { dim: -1 dim: -1 } }', [(2, 3)], "multiple -1 dims"),
    ('type: "Reshape" reshape_param { shape { dim: 4 } }', [(2, 3)], "output count must match input count"),
    ('type: "Reshape" reshape_param { shape { dim: -1 dim: 4 } }', [(2, 3)], "bottom count (6) must be divisible"),
    ('type: "Reshape" reshape_param { shape { dim: 2 dim: 3 dim: 0 } }', [(2, 3)], "no corresponding bottom axis"),
    ('type: "Reshape" reshape_param { axis: 3 }', [(2, 3)], "axis 3 out of range"),
    ('type: "Reshape" reshape_param { axis: 1 num_axes: 2 }', [(2, 3)], "end_axis = axis + num_axes is out of range"),
    ('type: "Tile" tile_param { axis: 0 }', [(2, 3)], "Number of tiles must be positive"),
    ('type: "ArgMax" argmax_param { top_k: 4 }', [(2, 3)], "expected 1..3, got 4"),
    ('type: "BatchNorm"', [(3,)], "axis 1 out of range"),
    ('type: "BatchNorm" param { lr_mult: 1 }', [(3, 2)], "Cannot configure batch normalization statistics"),
    ('type: "Scale" scale_param { axis: 1 num_axes: 2 }', [(3, 2)], "extends past bottom[0]'s shape"),
    ('type: "Scale"', [(3, 2), (3,)], "dimension mismatch"),
    ('type: "Bias" bias_param { num_axes: -2 }', [(3, 2)], "num_axes must be non-negative"),
    ('type: "Embed" embed_param { input_dim: 3 }', [[0]], "num_output must be positive"),
    ('type: "Embed" embed_param { num_output: 3 }', [[0]], "input_dim must be positive"),
    ('type: "Embed" embed_param { num_output: 1 input_dim: 3 }', [[0, 3]], "expected 0..2, got index 3 at element 1"),
    ('type: "BatchReindex"', [(3, 2), [0, 1, 3]], "expected 0..2, got index 3 at element 2"),
    ('type: "BatchReindex"', [(3, 2), (3, 1)], "expected indices along one axis, got shape 3 1"),
    ('type: "Filter"', [(3, 2), (3, 2)], "all axes but the first of size 1"),
    ('type: "Filter"', [(3, 2), (4,)], "same 0th dimension"),
    ('type: "LRN" lrn_param { local_size: 4 }', [(1, 2, 3, 3)], "for local_size: expected an odd number, got 4"),
    ('type: "LRN"', [(2, 3)], "must have 4 axes"),
    (STOCHASTIC % "kernel_size: 2 pad: 1", [(1, 1, 4, 4)], "Padding implemented only for average and max pooling."),
    (
        'type: "Pooling" pooling_param { pool: STOCHASTIC global_pooling: true round_mode: FLOOR pad: 1 }',
        [(1, 1, 4, 4)],
        "Padding implemented only",
    ),
    (
        'type: "Crop" crop_param { offset: 3 }',
        [(1, 1, 5, 5), (1, 1, 3, 3)],
        "inside 5, got offset 3 and size 3",
    ),
    ('type: "Crop" crop_param { offset: [1, 1, 1] }', [(1, 1, 5, 5), (1, 1, 3, 3)], "expected 2, got 3"),
    (
        'type: "SPP" spp_param { pyramid_height: 0 }',
        [(1, 1, 5, 5)],
        "expected a pyramid_height of at least 1, and at most 31 (2^30 bins), got 0",
    ),
]


@pytest.mark.parametrize(("text", "bottoms", "message"), REFUSED, ids=[f"{r[0][6:]} {r[2]}"[:70] for r in REFUSED])
def test_bad_input_is_refused_in_one_sentence(text, bottoms, message):
    arrays = [np.zeros(b) if isinstance(b, tuple) else np.array(b) for b in bottoms]
    with pytest.raises(CaffeError) as error:
        forward(text, *arrays)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    if "out of range" not in message:  # that sentence comes from the blob
        assert "layer 'layer' (" in str(error.value)


@pytest.mark.parametrize(
    ("type", "bottoms"),
    [
        ("SoftmaxWithLoss", 2),
        ("SigmoidCrossEntropyLoss", 2),
        ("HingeLoss", 2),
        ("MultinomialLogisticLoss", 2),
        ("InfogainLoss", 3),
    ],
)
def test_no_gradient_to_labels(type, bottoms):
    arrays = [np.full((2, 2), 0.5), np.zeros((2, 2) if type.startswith("Sigmoid") else 2), np.ones((2, 2))][:bottoms]
    layer, bottom, top = forward(f'type: "{type}"', *arrays)
    with pytest.raises(CaffeError, match=f"{type} Layer cannot backpropagate to label inputs."):
        layer.backward(top, [True] * bottoms, bottom)


def test_parameter_gradients_accumulate():
    for text in (
        'type: "PReLU"',
        'type: "Scale" scale_param { bias_term: true }',
        'type: "Bias"',
        'type: "InnerProduct" inner_product_param { num_output: 2 }',
        'type: "Convolution" convolution_param { num_output: 2 kernel_size: 1 }',
    ):
        layer, bottom, top = forward(text, np.random.default_rng(5).normal(size=(2, 3, 2, 2)))
        top[0].diff[...] = 1.5
        layer.backward(top, [True], bottom)
        once = [blob.diff.copy() for blob in layer.blobs]
        layer.backward(top, [True], bottom)
        for blob, diff in zip(layer.blobs, once, strict=True):
            np.testing.assert_allclose(blob.diff, 2 * diff, rtol=1e-6)
            assert (diff != 0).any()


def test_types_that_the_original_lacks_pass_their_own_example():
    original = set((FOLDER / "types.txt").read_text().split())
    for name in sorted(set(layer_type_list()) - original):
        example = getattr(LAYERS[name], "example", None)
        assert example, f"{name}: a type that BVLC Caffe lacks needs an `example`; see tests/caffe/gradient_check.py"
        check_example(name, example)
