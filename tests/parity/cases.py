"""The parity cases: one-layer nets for every layer type, run by the original and by this runtime on the same numbers.

CASES maps a layer type to its cases; whoever adds a layer type adds its cases here, and every test finds them. Read by
Python 3.9 too.
"""

# ruff: noqa: C408  # prototxt fields read best as keyword arguments
import collections
import itertools

FIELDS = "type name inputs body tops in_place phase down params forwards top_diff live files key"


class Case(collections.namedtuple("Case", FIELDS)):
    """A layer with given inputs.

    type, name: layer type, and what is special about the case (unique within the type).
    inputs: ((shape, kind of values), ...) per bottom; body: further prototxt of the layer.
    tops: number of tops; in_place: top 0 is bottom 0; phase: 0 TRAIN, 1 TEST.
    down: gradient wanted, per bottom; None for no backward pass at all.
    params: kind of values per parameter ("as filled" keeps the filler's); forwards: number of forward passes.
    live: True for a case that is compared live only and has no golden numbers.
    """

    @property
    def top_names(self):
        """Names of the top blobs."""
        names = [f"out{i}" for i in range(self.tops)]
        return ["in0"] + names[1:] if self.in_place else names

    def net(self, folder):
        """The prototxt of the net; `@` in the body is `folder`. Inputs that want a gradient are learned blobs."""
        lines = ['name: "case"']
        for i, (shape, _) in enumerate(self.inputs):
            source = "Parameter" if self.down and self.down[i] else "Input"
            dims = " ".join(f"dim: {n}" for n in shape)
            lines.append(
                f'layer {{ name: "in{i}" type: "{source}" top: "in{i}" '
                f"{source.lower()}_param {{ shape {{ {dims} }} }} }}"
            )
        lines.append(f'layer {{ name: "layer" type: "{self.type}"')
        lines += [f'  bottom: "in{i}"' for i in range(len(self.inputs))]
        lines += [f'  top: "{name}"' for name in self.top_names]
        if self.down is not None:
            lines += ["  loss_weight: 1" for _ in self.top_names]
        lines.append("  {}\n}}".format(self.body.replace("@", folder)))
        return "\n".join(lines) + "\n"


CASES = collections.defaultdict(list)

# In place the original squares the slope and forgets the top's gradient (both have the same memory). Nothing can have
# been trained like that, so there this runtime gives the true gradient, which
# tests/caffe/test_layers.py checks numerically.
GRADIENT_DIFFERS = ("Log in place", "Power in place")


def add(
    type,
    name,
    *inputs,
    body="",
    tops=1,
    in_place=False,
    phase=0,
    down=(),
    params=(),
    forwards=1,
    top_diff="normal",
    live=False,
    files=(),
):
    """Add a case. `down` () wants the gradient of every bottom that holds no labels (integers, hot, fractional)."""
    inputs = tuple((tuple(i[0]), i[1]) if isinstance(i[0], (tuple, list)) else (tuple(i), "normal") for i in inputs)
    if down == ():
        down = tuple(not k.startswith(("integers", "hot", "fractional")) or i == 0 for i, (_, k) in enumerate(inputs))
    assert name not in [case.name for case in CASES[type]], (type, name)
    CASES[type].append(
        Case(
            type,
            name,
            inputs,
            body,
            tops,
            in_place,
            phase,
            down,
            params,
            forwards,
            top_diff,
            live,
            files,
            type + "/" + name,
        )
    )


def cases_of(scope="live", types=()):
    """All cases of `types` (default: all types), in order; scope "golden" leaves out those that are live only."""
    return [
        case
        for type in sorted(CASES)
        if not types or type in types
        for case in CASES[type]
        if scope != "golden" or not case.live
    ]


def message(name, **fields):
    """Text of a prototxt message: message("pooling_param", kernel_size=3) -> "pooling_param { kernel_size: 3 }"."""
    parts = []
    for key, value in fields.items():
        for item in value if isinstance(value, (list, tuple)) else [value]:
            parts.append(f"{key}: {str(item).lower() if isinstance(item, bool) else item}")
    return name + " { " + " ".join(parts) + " }"


# -- convolution and what is like it -----------------------------------------------------------------------------------
GEOMETRY = [  # name, spatial sizes, convolution_param
    ("3x3", (5, 6), dict(kernel_size=3)),
    ("pad", (5, 4), dict(kernel_size=3, pad=1)),
    ("stride that does not divide", (7, 6), dict(kernel_size=3, stride=2)),
    ("pad and stride", (8, 7), dict(kernel_size=3, pad=2, stride=3)),
    ("1x1", (3, 4), dict(kernel_size=1)),
    ("1x1 with stride", (5, 4), dict(kernel_size=1, stride=2)),
    ("1xk", (1, 11), dict(kernel_h=1, kernel_w=3, pad_h=0, pad_w=1)),
    ("kx1", (11, 1), dict(kernel_h=3, kernel_w=1, stride_h=2, stride_w=1)),
    ("dilation", (8, 9), dict(kernel_size=3, dilation=2)),
    ("dilation per axis", (7, 9), dict(kernel_size=[3, 2], dilation=[1, 3], pad=[1, 2], stride=[2, 1])),
    ("even kernel", (6, 7), dict(kernel_size=[2, 4], pad=1)),
    ("kernel covers all", (4, 5), dict(kernel_h=4, kernel_w=5)),
]

for name, sizes, fields in GEOMETRY:
    for type in ("Convolution", "Deconvolution"):
        for batch, group in ((1, 1), (3, 2)):
            add(
                type,
                f"{name}, batch {batch}, group {group}",
                (batch, 4) + sizes,
                live=group == 2,
                body=message("convolution_param", num_output=6, group=group, **fields),
            )
    add("Im2col", name, (2, 3) + sizes, body=message("convolution_param", **fields))
for type in ("Convolution", "Deconvolution"):
    add(type, "groups", (2, 6, 5, 4), body=message("convolution_param", num_output=9, group=3, kernel_size=2, stride=2))
    add(type, "depthwise", (2, 4, 5, 5), body=message("convolution_param", num_output=4, group=4, kernel_size=3, pad=1))
    add(type, "no bias", (2, 3, 5, 5), body=message("convolution_param", num_output=2, kernel_size=3, bias_term=False))
    add(
        type,
        "two bottoms",
        (2, 3, 5, 5),
        (2, 3, 5, 5),
        tops=2,
        body=message("convolution_param", num_output=2, kernel_size=3),
    )
    add(type, "one spatial axis", (2, 3, 9), body=message("convolution_param", num_output=4, kernel_size=3, stride=2))
    add(
        type,
        "three spatial axes",
        (2, 2, 4, 3, 5),
        body=message("convolution_param", num_output=3, kernel_size=2, pad=1),
    )
    add(type, "axis 2", (2, 3, 4, 6), body=message("convolution_param", num_output=4, kernel_size=3, axis=2))
    add(type, "axis -1", (2, 3, 4), body=message("convolution_param", num_output=5, axis=-1))
    add(type, "axis -1, groups", (2, 3, 4), body=message("convolution_param", num_output=6, axis=-1, group=2))
    add(type, "zeros", ((2, 3, 5, 5), "constant:0"), body=message("convolution_param", num_output=2, kernel_size=3))
    add(
        type,
        "frozen bottom",
        (2, 3, 5, 5),
        down=(False,),
        body=message("convolution_param", num_output=2, kernel_size=3),
    )
    add(
        type,
        "no param gradient",
        (2, 3, 5, 5),
        body="param { lr_mult: 0 } param { lr_mult: 1 } " + message("convolution_param", num_output=2, kernel_size=3),
    )
    add(type, "nd", (2, 3, 5, 5), body=message("convolution_param", num_output=2, kernel_size=3, force_nd_im2col=True))
for size in (1, 2, 3, 4, 5, 8):
    add(
        "Deconvolution",
        f"bilinear filler {size}",
        (1, 3, 2, 2),
        params=("as filled",),
        body=message(
            "convolution_param",
            num_output=3,
            group=3,
            kernel_size=size,
            bias_term=False,
            weight_filler="{ type: 'bilinear' }",
        ),
    )
add(
    "InnerProduct",
    "constant fillers",
    (2, 3),
    params=("as filled",) * 2,
    body=message(
        "inner_product_param",
        num_output=2,
        weight_filler="{ value: 0.5 }",
        bias_filler="{ type: 'constant' value: -2 }",
    ),
)
for batch, (name, sizes, fields) in itertools.product((1, 3), GEOMETRY):
    add(
        "Convolution",
        f"one channel, {name}, batch {batch}",
        (batch, 1) + sizes,
        down=(False,),
        live=True,
        body=message("convolution_param", num_output=5, **fields),
    )
add(
    "Convolution",
    "one channel",
    (2, 1, 4, 7),
    down=(False,),
    body=message("convolution_param", num_output=5, kernel_h=1, kernel_w=3, pad_h=0, pad_w=1),
)
add(
    "Convolution",
    "one channel, no bias",
    (2, 1, 1, 8),
    down=(False,),
    body=message("convolution_param", num_output=5, kernel_h=1, kernel_w=3, stride_w=2, stride_h=1, bias_term=False),
)
add(
    "Convolution",
    "conv1 of AlexNet",
    (1, 1, 43, 39),
    live=True,
    body=message("convolution_param", num_output=96, kernel_size=11, stride=4),
)
add(
    "Convolution",
    "conv2 of AlexNet",
    (2, 96, 13, 13),
    live=True,
    body=message("convolution_param", num_output=256, kernel_size=5, pad=2, group=2),
)
add(
    "Convolution",
    "conv1 of AudioNet",
    (2, 1, 1, 200),
    live=True,
    body=message("convolution_param", num_output=100, kernel_h=1, kernel_w=3, pad_w=1),
)
add(
    "Convolution",
    "conv3 of AudioNet",
    (2, 64, 1, 101),
    live=True,
    body=message("convolution_param", num_output=128, kernel_h=1, kernel_w=3, pad_w=1),
)
add("Im2col", "one spatial axis", (2, 3, 9), body=message("convolution_param", kernel_size=3, stride=2))
add("Im2col", "three spatial axes", (1, 2, 4, 3, 5), body=message("convolution_param", kernel_size=2, pad=1))
add("Im2col", "axis 2", (2, 3, 4, 6), body=message("convolution_param", kernel_size=3, axis=2))

# -- pooling -----------------------------------------------------------------------------------------------------------
POOLS = [
    ("3/2", dict(kernel_size=3, stride=2)),
    ("2/2", dict(kernel_size=2, stride=2)),
    ("3/2 pad 1", dict(kernel_size=3, stride=2, pad=1)),
    ("2/2 pad 1", dict(kernel_size=2, stride=2, pad=1)),
    ("3/1 pad 2", dict(kernel_size=3, stride=1, pad=2)),
    ("3/2 pad 2", dict(kernel_size=3, stride=2, pad=2)),
    ("2x3/1x2", dict(kernel_h=2, kernel_w=3, stride_h=1, stride_w=2)),
    ("pad one axis", dict(kernel_h=3, kernel_w=2, stride_h=2, stride_w=2, pad_h=1, pad_w=0)),
    ("global", dict(global_pooling=True)),
    ("stride above kernel", dict(kernel_size=2, stride=3)),
    ("floor", dict(kernel_size=3, stride=2, round_mode="FLOOR")),
]
for (name, fields), method in itertools.product(POOLS, ("MAX", "AVE")):
    for sizes in ((6, 5), (7, 8)):
        if name == "stride above kernel" and sizes == (6, 5):
            continue  # a window beyond the image: AVE is 0/0
        add(
            "Pooling",
            f"{method} {name} of {sizes[0]}x{sizes[1]}",
            ((2, 3) + sizes, "spread"),
            body=message("pooling_param", pool=method, **fields),
            live=sizes == (7, 8),
        )
add(
    "Pooling",
    "window beyond the image",
    ((1, 2, 6, 6), "spread"),
    down=None,
    body=message("pooling_param", pool="MAX", kernel_size=2, stride=3),
)
for name, fields in POOLS:
    add(
        "Pooling",
        f"ties {name}",
        ((2, 2, 7, 8), "integers:0,3"),
        live=name not in ("3/2", "3/2 pad 1", "2/2"),
        body=message("pooling_param", pool="MAX", **fields),
    )
    add(
        "Pooling",
        f"mask {name}",
        ((2, 2, 7, 8), "spread"),
        tops=2,
        live=name not in ("3/2", "3/2 pad 1", "2/2"),
        body=message("pooling_param", pool="MAX", **fields),
    )
for width in (8, 9):
    add(
        "Pooling",
        f"1x2/2 of {width}",
        ((3, 4, 1, width), "integers:-2,2"),
        body=message("pooling_param", pool="MAX", kernel_h=1, kernel_w=2, stride_h=1, stride_w=2),
    )
    add(
        "Pooling",
        f"1x3/2 of {width}",
        ((3, 4, 1, width), "integers:-2,2"),
        body=message("pooling_param", pool="MAX", kernel_h=1, kernel_w=3, stride_h=1, stride_w=2),
    )
add(
    "Pooling",
    "all negative",
    ((2, 2, 5, 5), "uniform:-3,-1"),
    body=message("pooling_param", pool="MAX", kernel_size=3, stride=2, pad=1),
)
add(
    "Pooling", "zeros", ((2, 2, 5, 5), "constant:0"), body=message("pooling_param", pool="MAX", kernel_size=3, stride=2)
)
for method in ("MAX", "AVE"):
    for height, sizes in ((1, (5, 6)), (2, (7, 6)), (3, (9, 7)), (3, (8, 8))):
        add(
            "SPP",
            f"{method} {height} of {sizes[0]}x{sizes[1]}",
            ((2, 3) + sizes, "spread"),
            body=message("spp_param", pyramid_height=height, pool=method),
        )

# -- LRN and Crop ------------------------------------------------------------------------------------------------------
for region in ("ACROSS_CHANNELS", "WITHIN_CHANNEL"):
    for name, shape, fields in [
        ("defaults", (2, 7, 4, 5), {}),
        ("of AlexNet", (2, 7, 4, 5), dict(local_size=5, alpha=0.0001, beta=0.75)),
        ("size 3", (3, 4, 5, 3), dict(local_size=3, alpha=2.0, beta=0.5, k=2.0)),
        ("size 1", (1, 4, 3, 3), dict(local_size=1, alpha=1.5)),
        ("window wider than the blob", (2, 3, 3, 2), dict(local_size=7, alpha=1.0)),
    ]:
        add("LRN", f"{region} {name}", shape, body=message("lrn_param", norm_region=region, **fields))
    add("LRN", f"{region} zeros", ((2, 5, 3, 3), "constant:0"), body=message("lrn_param", norm_region=region))
for name, shape, like, fields in [
    ("defaults", (2, 3, 6, 7), (2, 3, 4, 5), {}),
    ("one offset", (2, 3, 6, 7), (2, 3, 4, 5), dict(offset=2)),
    ("offsets", (2, 3, 6, 7), (1, 9, 4, 5), dict(offset=[1, 2])),
    ("axis 1", (2, 5, 6, 7), (2, 3, 4, 5), dict(axis=1, offset=[2, 0, 1])),
    ("axis 0", (4, 5), (2, 3), dict(axis=0, offset=1)),
    ("axis -1", (2, 3, 6, 7), (1, 1, 1, 5), dict(axis=-1, offset=1)),
    ("nothing to crop", (2, 3, 4, 5), (2, 3, 4, 5), {}),
]:
    add("Crop", name, shape, like, down=(True, False), body=message("crop_param", **fields))

# -- common layers -----------------------------------------------------------------------------------------------------
for name, shape, fields in [
    ("matrix", (3, 5), {}),
    ("image", (2, 3, 2, 4), {}),
    ("batch 1", (1, 3, 2, 4), {}),
    ("axis 2", (2, 3, 2, 4), dict(axis=2)),
    ("axis -1", (2, 3, 2, 4), dict(axis=-1)),
    ("axis 0", (3, 5), dict(axis=0)),
    ("transpose", (3, 2, 4), dict(transpose=True)),
    ("no bias", (3, 5), dict(bias_term=False)),
    ("transpose, no bias", (3, 5), dict(transpose=True, bias_term=False)),
]:
    add("InnerProduct", name, shape, body=message("inner_product_param", num_output=4, **fields))
add(
    "InnerProduct",
    "fc7 of AudioNet, narrower",
    (2, 128, 1, 25),
    live=True,
    body=message("inner_product_param", num_output=100),
)
for bias in (True, False):
    add(
        "Embed",
        f"bias {bias}",
        ((2, 3), "integers:0,5"),
        down=(False,),
        body=message("embed_param", num_output=4, input_dim=5, bias_term=bias),
    )
add(
    "Embed",
    "fractions",
    ((4,), "fractional:0,5"),
    down=(False,),
    body=message("embed_param", num_output=2, input_dim=5),
)

for name, shape in [
    ("image", (3, 4, 2, 5)),
    ("matrix", (5, 3)),
    ("three axes", (2, 3, 4)),
    ("five axes", (2, 3, 2, 2, 2)),
    ("batch 1", (1, 3, 4, 4)),
    ("one element per channel", (1, 3)),
]:
    for in_place in (False, True):
        where = ", in place" if in_place else ""
        add("BatchNorm", name + where, shape, in_place=in_place, params=("normal", "uniform:1,2", "constant:1.7"))
        add(
            "BatchNorm",
            name + where + ", TEST",
            shape,
            in_place=in_place,
            phase=1,
            params=("normal", "uniform:1,2", "constant:1.7"),
        )
add("BatchNorm", "as filled, TEST", (3, 4, 2, 2), phase=1, params=("as filled",) * 3)
add(
    "BatchNorm",
    "five passes",
    (3, 4, 2, 2),
    forwards=5,
    params=("as filled",) * 3,
    body=message("batch_norm_param", moving_average_fraction=0.9),
)
add(
    "BatchNorm",
    "eps",
    ((3, 4, 2, 2), "normal:0.1"),
    params=("as filled",) * 3,
    body=message("batch_norm_param", eps=0.1),
)
add(
    "BatchNorm",
    "global in TRAIN",
    (3, 4, 2, 2),
    params=("normal", "uniform:1,2", "constant:3"),
    body=message("batch_norm_param", use_global_stats=True),
)
add(
    "BatchNorm",
    "batch statistics in TEST",
    (3, 4, 2, 2),
    phase=1,
    params=("normal", "uniform:1,2", "constant:3"),
    body=message("batch_norm_param", use_global_stats=False),
)
add("BatchNorm", "zeros", ((3, 4, 2, 2), "constant:0"), params=("as filled",) * 3)

for type, parameter in (("Scale", "scale_param"), ("Bias", "bias_param")):
    for name, shape, fields in [
        ("defaults", (2, 3, 4, 5), {}),
        ("axis 0", (2, 3, 4, 5), dict(axis=0)),
        ("axis 0, two axes", (2, 3, 4, 5), dict(axis=0, num_axes=2)),
        ("to the end", (2, 3, 4, 5), dict(num_axes=-1)),
        ("all", (2, 3, 4, 5), dict(axis=0, num_axes=-1)),
        ("scalar", (2, 3, 4, 5), dict(num_axes=0)),
        ("axis -1", (2, 3, 4, 5), dict(axis=-1)),
        ("axis 2", (2, 3, 4, 5), dict(axis=2)),
        ("matrix", (3, 4), {}),
        ("batch 1", (1, 3, 4, 5), {}),
    ]:
        for in_place in (False, True):
            add(
                type,
                name + (", in place" if in_place else ""),
                shape,
                in_place=in_place,
                live=in_place,
                body=message(parameter, **fields),
            )
            if type == "Scale":
                add(
                    type,
                    name + ", bias" + (", in place" if in_place else ""),
                    shape,
                    in_place=in_place,
                    body=message(parameter, bias_term=True, **fields),
                )
    for name, shape, other, fields in [
        ("two bottoms", (2, 3, 4, 5), (3,), {}),
        ("two bottoms, axis 0", (2, 3, 4, 5), (2,), dict(axis=0)),
        ("two bottoms, equal", (2, 3, 4, 5), (2, 3, 4, 5), dict(axis=0)),
        ("two bottoms, matrix", (2, 3, 4, 5), (3, 4), {}),
        ("two bottoms, scalar", (2, 3, 4, 5), (), {}),
        ("two bottoms, axis -2", (2, 3, 4, 5), (4, 5), dict(axis=-2)),
    ]:
        for in_place in (False, True):
            add(
                type,
                name + (", in place" if in_place else ""),
                shape,
                ((other), "normal"),
                in_place=in_place,
                body=message(parameter, **fields),
            )
add("Scale", "two bottoms, bias", (2, 3, 4, 5), (3, 4), body=message("scale_param", bias_term=True))
for type, parameter in (("Scale", "scale_param"), ("Bias", "bias_param")):
    add(type, "as filled", (2, 3, 4, 5), params=("as filled",), body=message(parameter))

for axis in (0, 1, 2, -1):
    shapes = [[2, 3, 4], [2, 3, 4], [2, 3, 4]]
    for shape, size in zip(shapes, (1, 5, 2)):  # noqa: B905  # Python 3.9 has no strict
        shape[axis] = size
    add("Concat", f"axis {axis}", *shapes, body=message("concat_param", axis=axis))
add("Concat", "defaults", (2, 3, 4), (2, 1, 4))
add("Concat", "concat_dim", (2, 3, 4, 1), (5, 3, 4, 1), body=message("concat_param", concat_dim=0))
add("Concat", "one bottom", (2, 3, 4))
add("Concat", "some gradients", (2, 3, 4), (2, 1, 4), (2, 2, 4), down=(True, False, True))
for name, shape, tops, fields in [
    ("halves", (3, 4, 2), 2, {}),
    ("points", (3, 6, 2), 3, dict(slice_point=[1, 4])),
    ("axis 0", (4, 3), 4, dict(axis=0)),
    ("axis -1", (2, 3, 6), 3, dict(axis=-1)),
    ("slice_dim", (6, 3, 2, 2), 2, dict(slice_dim=0, slice_point=1)),
    ("one top", (3, 4), 1, {}),
    ("labels of the networks", (5, 2), 2, dict(axis=1, slice_point=1)),
]:
    add("Slice", name, shape, tops=tops, body=message("slice_param", **fields))
for tops in (1, 2, 3, 5):
    add("Split", f"{tops} tops", (2, 3, 4), tops=tops)

OPERATIONS = [
    ("SUM", {}),
    ("SUM", dict(coeff=[1, -1])),
    ("SUM", dict(coeff=[0.5, 2])),
    ("PROD", {}),
    ("PROD", dict(stable_prod_grad=False)),
    ("MAX", {}),
]
for operation, fields in OPERATIONS:
    name = "{} {}".format(operation, " ".join("{} {}".format(*item) for item in fields.items()))
    body = message("eltwise_param", operation=operation, **fields)
    add("Eltwise", name.strip() + " of 2", (2, 3, 4), (2, 3, 4), body=body)
    if "coeff" not in fields:
        add("Eltwise", name.strip() + " of 4", *[(2, 3, 4)] * 4, body=body)
    add(
        "Eltwise",
        name.strip() + " with ties",
        *[((2, 3, 4), "integers:-1,2")] * 2,
        down=(True, True),
        body=body,
        live="stable_prod_grad" in fields,
    )
add("Eltwise", "SUM of 3 with coefficients", *[(2, 3)] * 3, body=message("eltwise_param", coeff=[1, -2, 0.25]))
add(
    "Eltwise",
    "MAX of 4 with ties",
    *[((2, 3, 4), "integers:-1,2")] * 4,
    down=(True,) * 4,
    body=message("eltwise_param", operation="MAX"),
)
add(
    "Eltwise",
    "PROD of 3 with zeros",
    *[((2, 3, 4), "integers:-1,2")] * 3,
    down=(True,) * 3,
    body=message("eltwise_param", operation="PROD"),
)

for name, shape, fields in [
    ("defaults", (2, 3, 4, 5), {}),
    ("axis 0", (2, 3, 4), dict(axis=0)),
    ("middle", (2, 3, 4, 5), dict(axis=1, end_axis=2)),
    ("negative", (2, 3, 4), dict(axis=-2)),
    ("one axis", (2, 3, 4), dict(axis=1, end_axis=1)),
    ("end -2", (2, 3, 4, 5), dict(axis=0, end_axis=-2)),
]:
    add("Flatten", name, shape, body=message("flatten_param", **fields))
for name, shape, dims, fields in [
    ("plain", (2, 3, 4), [4, 6], ""),
    ("copy and infer", (2, 3, 4, 5), [0, -1, 5], ""),
    ("copy all", (2, 3, 4), [0, 0, 0], ""),
    ("flatten", (2, 3, 4), [0, -1], ""),
    ("scalars", (1, 1), [], ""),
    ("axis 1", (2, 3, 4, 5), [12, 5], "axis: 1"),
    ("axis 1, two axes", (2, 6, 4, 5), [3, 8], "axis: 1 num_axes: 2"),
    ("insert", (2, 3), [1], "axis: 1 num_axes: 0"),
    ("append", (2, 3), [1, 1], "axis: -1 num_axes: 0"),
    ("axis -2", (2, 3, 4), [2, 2], "axis: -2 num_axes: 1"),
    ("infer 1", (2, 3), [-1, 2, 3], ""),
    ("copy behind axis", (2, 3, 4), [0, 2, 2], "axis: 1"),
]:
    dims = " ".join(f"dim: {d}" for d in dims)
    add("Reshape", name, shape, body=f"reshape_param {{ shape {{ {dims} }} {fields} }}")
for name, shape, fields in [
    ("defaults", (2, 3, 4), dict(tiles=3)),
    ("axis 0", (2, 3), dict(axis=0, tiles=2)),
    ("axis -1", (2, 3, 4), dict(axis=-1, tiles=2)),
    ("once", (2, 3), dict(tiles=1)),
]:
    add("Tile", name, shape, body=message("tile_param", **fields))
for operation, (name, shape, fields) in itertools.product(
    ("SUM", "ASUM", "SUMSQ", "MEAN"),
    [
        ("to a scalar", (2, 3, 4), {}),
        ("axis 1", (2, 3, 4), dict(axis=1)),
        ("axis -1", (2, 3, 4), dict(axis=-1)),
        ("coefficient", (2, 3), dict(axis=1, coeff=-0.5)),
    ],
):
    add("Reduction", f"{operation} {name}", shape, body=message("reduction_param", operation=operation, **fields))
add("Reduction", "ASUM of zeros", ((2, 3), "constant:0"), body=message("reduction_param", operation="ASUM", axis=1))
for name, shape, fields in [
    ("defaults", (3, 5), {}),
    ("image", (2, 3, 4, 5), {}),
    ("five axes", (2, 3, 2, 2, 2), {}),
    ("vector", (4,), {}),
    ("top 3", (3, 7), dict(top_k=3)),
    ("values", (3, 7), dict(top_k=3, out_max_val=True)),
    ("axis 1", (2, 5, 3), dict(axis=1)),
    ("axis 1, values", (2, 5, 3), dict(axis=1, top_k=2, out_max_val=True)),
    ("axis -1, top 2", (2, 5, 3), dict(axis=-1, top_k=2)),
    ("axis 0", (4, 3), dict(axis=0)),
]:
    add("ArgMax", name, shape, down=None, body=message("argmax_param", **fields))
    add("ArgMax", name + ", ties", (shape, "integers:0,2"), down=None, body=message("argmax_param", **fields))
for name, shape, fields in [
    ("defaults", (2, 3, 4, 5), {}),
    ("mean only", (2, 3, 4, 5), dict(normalize_variance=False)),
    ("across", (2, 3, 4, 5), dict(across_channels=True)),
    ("across, mean only", (2, 3, 4, 5), dict(across_channels=True, normalize_variance=False)),
    ("eps", (2, 3, 4, 5), dict(eps=0.1)),
    ("three axes", (2, 3, 4), {}),
    ("matrix", (3, 5), dict(across_channels=True)),
]:
    add("MVN", name, shape, body=message("mvn_param", **fields))
add("Filter", "rows", (5, 3), ((5,), "hot"))
add("Filter", "two blobs", (5, 3, 2), (5, 1), ((5, 1, 1), "hot"), tops=2)
add("Filter", "all", (4, 3), ((4,), "constant:1"), down=(True, False))
add("Filter", "changing", (6, 2), ((6,), "hot"), forwards=3)
add("BatchReindex", "repeats", (4, 3, 2), ((6,), "integers:0,4"))
add("BatchReindex", "fewer", (5, 2), ((2,), "integers:0,5"))
add("BatchReindex", "fractions", (5, 2), ((4,), "fractional:0,5"))
add("Parameter", "matrix", down=(), body="parameter_param { shape { dim: 2 dim: 3 } }")

# -- recurrent layers --------------------------------------------------------------------------------------------------
for type, states in (("LSTM", 2), ("RNN", 1)):
    for name, shape, fields in [
        ("plain", (4, 3, 5), {}),
        ("one step", (1, 2, 3), {}),
        ("one item, wide", (3, 1, 2, 2, 2), {}),
        ("a number a step", (5, 2, 1), {}),
        ("filled", (3, 2, 4), dict(weight_filler="{ type: 'constant' value: 0.2 }", bias_filler="{ value: -0.1 }")),
    ]:
        body = message("recurrent_param", num_output=4, **fields)
        filled = ("as filled",) * 6 if name == "filled" else ()
        add(type, name, shape, (shape[:2], "hot"), body=body, params=filled)
    body = message("recurrent_param", num_output=3)
    sequence = ((4, 2, 5), ((4, 2), "hot"))
    hidden = [((1, 2, 3), "normal")] * states
    exposed = message("recurrent_param", num_output=3, expose_hidden=True)
    add(type, "goes on from the pass before", *sequence, body=body, forwards=3)
    add(type, "no beginning", (4, 2, 5), ((4, 2), "constant:1"), body=body, forwards=2, down=(True, False))
    add(type, "half a beginning", (4, 2, 5), ((4, 2), "uniform"), body=body, forwards=2, down=(True, False))
    add(type, "in testing", *sequence, body=body, forwards=2, phase=1)
    add(type, "static input", *sequence, (2, 3), body=body)
    add(type, "static input of one number", *sequence, (2, 1), body=body, forwards=2)
    add(type, "static image, frozen", *sequence, (2, 2, 2, 1), body=body, down=(True, False, False))
    add(type, "exposed", *sequence, *hidden, tops=1 + states, body=exposed, forwards=2)
    add(type, "exposed and static", *sequence, (2, 3), *hidden, tops=1 + states, body=exposed)
    add(type, "frozen input", *sequence, body=body, down=(False, False))
for name, kind in (("goes on", "constant:1"), ("begins", "constant:0"), ("both", "hot"), ("by halves", "uniform")):
    add(
        "LSTMUnit",
        name,
        (1, 3, 4),
        (1, 3, 16),
        ((1, 3), kind),
        tops=2,
        down=(True, True, False),
    )
add("LSTMUnit", "large", ((1, 2, 3), "normal:3"), ((1, 2, 12), "normal:20"), ((1, 2), "hot"), tops=2)

# -- neuron layers -----------------------------------------------------------------------------------------------------
NEURONS = {
    "ReLU": [("", {}), ("slope", dict(negative_slope=0.1))],
    "ELU": [("", {}), ("alpha", dict(alpha=0.3))],
    "Sigmoid": [("", {})],
    "TanH": [("", {})],
    "Swish": [("", {}), ("beta", dict(beta=1.5))],
    "AbsVal": [("", {})],
    "BNLL": [("", {})],
    "Clip": [("", dict(min=-0.4, max=0.7)), ("positive", dict(min=0.0, max=6.0))],
    "Power": [
        ("", {}),
        ("affine", dict(scale=0.05, shift=3)),
        ("square", dict(power=2, scale=0.5, shift=0.25)),
        ("cube", dict(power=3)),
        ("cube of affine", dict(power=3, scale=-2, shift=0.3)),
        ("scaled", dict(scale=-2)),
        ("shifted", dict(shift=1.5)),
        ("constant", dict(power=0, scale=3, shift=2)),
        ("constant shift", dict(power=2, scale=0, shift=3)),
        ("square of scaled", dict(power=2, scale=3)),
    ],
    "Exp": [
        ("", {}),
        ("base 2", dict(base=2)),
        ("affine", dict(scale=0.5, shift=1)),
        ("base 3, affine", dict(base=3, scale=-0.5, shift=0.7)),
    ],
    "Threshold": [("", {}), ("0.5", dict(threshold=0.5))],
    "Dropout": [("", {}), ("0.3", dict(dropout_ratio=0.3))],
}
PARAMETER_OF = {
    "ReLU": "relu_param",
    "ELU": "elu_param",
    "Sigmoid": "sigmoid_param",
    "TanH": "tanh_param",
    "AbsVal": "",
    "BNLL": "",
    "Dropout": "dropout_param",
}
for type, settings in NEURONS.items():
    for (name, fields), in_place in itertools.product(settings, (False, True)):
        if type == "AbsVal" and in_place:
            continue
        parameter = PARAMETER_OF.get(type, type.lower() + "_param")
        body = message(parameter, **fields) if parameter else ""
        label = ", ".join(filter(None, [name, "in place" if in_place else ""]))
        common = dict(body=body, in_place=in_place, phase=1 if type == "Dropout" else 0)
        if type == "Threshold" or type == "Power" and in_place:  # see GRADIENT_DIFFERS
            common["down"] = None
        add(type, ("plain " + label).strip(), (2, 3, 4, 5), **common)
        add(type, ("matrix " + label).strip(), (3, 5), **common)
        if type not in ("Exp", "Power"):
            add(type, ("extreme " + label).strip(), ((2, 3, 4), "extreme"), **common)
            add(type, ("zeros " + label).strip(), ((2, 3), "constant:0"), **common)
            add(type, ("negative " + label).strip(), ((2, 3), "uniform:-2,-0.1"), live=True, **common)
for in_place in (False, True):
    label = ", in place" if in_place else ""
    for name, fields in [
        ("plain", {}),
        ("base 2", dict(base=2)),
        ("affine", dict(scale=0.5, shift=1)),
        ("base 10, affine", dict(base=10, scale=2, shift=0.7)),
    ]:
        add(
            "Log",
            name + label,
            ((2, 3, 4), "uniform:0.1,3"),
            in_place=in_place,
            body=message("log_param", **fields),
            down=None if in_place else (),
        )
    for name, fields in [
        ("root", dict(power=0.5)),
        ("root of affine", dict(power=0.5, scale=2, shift=1)),
        ("inverse", dict(power=-1)),
        ("2.5", dict(power=2.5, scale=0.5)),
    ]:
        add(
            "Power",
            name + label,
            ((2, 3, 4), "uniform:0.1,3"),
            in_place=in_place,
            body=message("power_param", **fields),
            down=None if in_place else (),
        )
    for name, shape, fields in [
        ("", (2, 3, 4, 5), {}),
        ("shared", (2, 3, 4, 5), dict(channel_shared=True)),
        ("matrix", (3, 5), {}),
        ("batch 1", (1, 3, 4, 4), {}),
    ]:
        add("PReLU", ("plain " + name + label).strip(), shape, in_place=in_place, body=message("prelu_param", **fields))
    add("PReLU", "as filled" + label, (2, 3, 4), in_place=in_place, params=("as filled",))
    for axis in (0, 1, 2, -1):
        add(
            "Softmax",
            f"axis {axis}{label}",
            ((2, 5, 3, 4), "normal:3"),
            in_place=in_place,
            live=in_place,
            body=message("softmax_param", axis=axis),
        )
    add("Softmax", "matrix" + label, (4, 10), in_place=in_place)
    add("Softmax", "extreme" + label, ((4, 10), "extreme"), in_place=in_place)
add("Power", "base zero", ((2, 3), "constant:0"), body=message("power_param", power=3))
add("Power", "base zero of affine", ((2, 3), "constant:-1"), body=message("power_param", power=3, shift=1))

# -- losses ------------------------------------------------------------------------------------------------------------
NORMALIZATIONS = [
    ("", ""),
    ("FULL", "normalization: FULL"),
    ("VALID", "normalization: VALID"),
    ("BATCH_SIZE", "normalization: BATCH_SIZE"),
    ("NONE", "normalization: NONE"),
]
NORMALIZE = [
    ("normalize", "normalize: true"),
    ("not normalize", "normalize: false"),
    ("both", "normalize: true normalization: NONE"),
]
for type in ("SoftmaxWithLoss", "InfogainLoss"):
    for (name, text), ignore in itertools.product(
        NORMALIZATIONS + (NORMALIZE if type == "SoftmaxWithLoss" else []), ("", "ignore_label: 2", "ignore_label: -1")
    ):
        label = " ".join(filter(None, ["plain", name, ignore.replace("_label:", "")]))
        low = -1 if "-1" in ignore else 0
        body = f"loss_param {{ {text} {ignore} }}"
        matrix = [((4, 4), "uniform:0,2")] if type == "InfogainLoss" else []
        down = (True, False) + (False,) * len(matrix)
        add(type, label, ((6, 4), "normal:2"), ((6,), f"integers:{low},4"), *matrix, down=down, body=body)
        add(
            type,
            "image " + label,
            ((2, 4, 3, 2), "normal:2"),
            ((2, 1, 3, 2), f"integers:{low},4"),
            *matrix,
            down=down,
            body=body,
            live=bool(name),
        )
        if type == "InfogainLoss":  # the original's SoftmaxWithLoss refuses every loss_weight with two tops
            add(
                type,
                "two tops " + label,
                ((3, 4), "normal:2"),
                ((3, 1), f"integers:{low},4"),
                *matrix,
                down=down,
                tops=2,
                body=body,
                live=True,
            )
    matrix = [((4, 4), "uniform:0,2")] if type == "InfogainLoss" else []
    parameter = "softmax_param" if type == "SoftmaxWithLoss" else "infogain_loss_param"
    down = (True, False) + (False,) * len(matrix)
    add(
        type,
        "axis -1",
        ((2, 3, 4), "normal:2"),
        ((2, 3), "integers:0,4"),
        *matrix,
        down=down,
        body=f"{parameter} {{ axis: -1 }}" + (" softmax_param { axis: -1 }" if matrix else ""),
    )
    add(
        type,
        "axis 2",
        ((2, 3, 4, 2), "normal:2"),
        ((2, 3, 1, 2), "integers:0,4"),
        *matrix,
        down=down,
        body=f"{parameter} {{ axis: 2 }}" + (" softmax_param { axis: 2 }" if matrix else ""),
    )
    add(type, "extreme", ((6, 4), "extreme"), ((6,), "integers:0,4"), *matrix, down=down)
    add(type, "batch 1", ((1, 4), "normal"), ((1,), "integers:0,4"), *matrix, down=down)
    add(type, "fractions", ((5, 4), "normal"), ((5,), "fractional:0,4"), *matrix, down=down)
    add(
        type,
        "all ignored",
        ((3, 4), "normal"),
        ((3,), "constant:2"),
        *matrix,
        down=down,
        body="loss_param { ignore_label: 2 }",
    )
add(
    "InfogainLoss",
    "from a file",
    ((3, 3), "normal"),
    ((3,), "integers:0,3"),
    down=(True, False),
    body='infogain_loss_param { source: "@/infogain.binaryproto" }',
    files=(("infogain.binaryproto", (3, 3)),),
)
for (name, text), ignore in itertools.product(NORMALIZATIONS + NORMALIZE, ("", "ignore_label: 0")):
    label = " ".join(filter(None, ["plain", name, ignore.replace("_label:", "")]))
    add(
        "SigmoidCrossEntropyLoss",
        label,
        ((4, 3), "normal:2"),
        ((4, 3), "integers:0,2"),
        down=(True, False),
        body=f"loss_param {{ {text} {ignore} }}",
    )
add(
    "SigmoidCrossEntropyLoss", "real targets", ((2, 3, 2, 2), "normal:2"), ((2, 3, 2, 2), "uniform"), down=(True, False)
)
add(
    "SigmoidCrossEntropyLoss",
    "real targets, ignore 0",
    ((2, 3), "normal:2"),
    ((2, 3), "uniform"),
    down=(True, False),
    body="loss_param { ignore_label: 0 }",
)
add("SigmoidCrossEntropyLoss", "extreme", ((4, 6), "extreme"), ((4, 6), "integers:0,2"), down=(True, False))
add("SigmoidCrossEntropyLoss", "other shape", ((4, 6), "normal"), ((4, 3, 2), "uniform"), down=(True, False))
add("EuclideanLoss", "matrix", (4, 3), (4, 3))
add("EuclideanLoss", "image", (2, 3, 2, 2), (2, 3, 2, 2))
add("EuclideanLoss", "other shape", (4, 6), (4, 3, 2))
add("EuclideanLoss", "first only", (4, 3), (4, 3), down=(True, False))
add("EuclideanLoss", "second only", (4, 3), (4, 3), down=(False, True))
for norm in ("L1", "L2"):
    add("HingeLoss", norm, ((5, 4), "normal"), ((5,), "integers:0,4"), body=message("hinge_loss_param", norm=norm))
    add(
        "HingeLoss",
        norm + " image",
        ((2, 3, 2, 1), "normal"),
        ((2, 1, 1, 1), "integers:0,3"),
        body=message("hinge_loss_param", norm=norm),
    )
    add(
        "HingeLoss",
        norm + " zeros",
        ((3, 4), "constant:0"),
        ((3,), "integers:0,4"),
        body=message("hinge_loss_param", norm=norm),
    )
for legacy in (False, True):
    for margin in (1.0, 2.5):
        add(
            "ContrastiveLoss",
            f"legacy {legacy} margin {margin:g}",
            (6, 3),
            (6, 3),
            ((6,), "hot"),
            body=message("contrastive_loss_param", margin=margin, legacy_version=legacy),
        )
    add(
        "ContrastiveLoss",
        f"legacy {legacy} image",
        ((4, 3, 1, 1), "normal:0.3"),
        ((4, 3, 1, 1), "normal:0.3"),
        ((4, 1, 1, 1), "hot"),
        body=message("contrastive_loss_param", legacy_version=legacy),
    )
    add(
        "ContrastiveLoss",
        f"legacy {legacy} equal",
        ((4, 3), "constant:1"),
        ((4, 3), "constant:1"),
        ((4,), "hot"),
        body=message("contrastive_loss_param", legacy_version=legacy),
    )
add("MultinomialLogisticLoss", "probabilities", ((5, 4), "probabilities"), ((5,), "integers:0,4"))
add("MultinomialLogisticLoss", "zeros", ((5, 4), "constant:0"), ((5,), "integers:0,4"))
add("MultinomialLogisticLoss", "image", ((3, 4, 1, 1), "probabilities"), ((3, 1, 1, 1), "integers:0,4"))
for ties in (False, True):
    values = "integers:0,3" if ties else "normal"
    for top_k, ignore, tops in itertools.product((1, 2, 4), ("", "ignore_label: 1", "ignore_label: -1"), (1, 2)):
        label = f"top {top_k}, {ignore and ignore + ', '}{tops} tops" + (", ties" if ties else "")
        low = -1 if "-1" in ignore else 0
        body = f"accuracy_param {{ top_k: {top_k} {ignore} }}"
        add(
            "Accuracy",
            label,
            ((12, 4), values),
            ((12, 1), f"integers:{low},4"),
            tops=tops,
            down=None,
            body=body,
            phase=1,
            live=tops == 1 and top_k == 2,
        )
    add(
        "Accuracy",
        "image%s" % (", ties" if ties else ""),
        ((2, 4, 3, 2), values),
        ((2, 1, 3, 2), "integers:0,4"),
        tops=2,
        down=None,
        phase=1,
    )
    add(
        "Accuracy",
        "axis -1%s" % (", ties" if ties else ""),
        ((2, 3, 4), values),
        ((2, 3), "integers:0,4"),
        tops=2,
        down=None,
        phase=1,
        body=message("accuracy_param", axis=-1),
    )
add(
    "Accuracy",
    "all ignored",
    ((3, 4), "normal"),
    ((3,), "constant:2"),
    tops=2,
    down=None,
    phase=1,
    body=message("accuracy_param", ignore_label=2),
)
add("Accuracy", "zeros", ((3, 4), "constant:0"), ((3,), "integers:0,4"), tops=2, down=None, phase=1)
