"""Nets whose construction, gradients and refusals are compared with the original's; read by Python 3.9 too.

NETS maps a name to (prototxt, options): phase, level, stages of caffe.Net. `observe` runs one case on whichever Caffe
`import caffe` finds. All numbers are small and fixed: learned blobs are filled from numpy's RandomState.
"""

import os
import re

import numpy as np

NETS = {}
UPGRADE = ("Attempting to upgrade", "Successfully upgraded", "Note that future Caffe releases")
LOG_LINE = re.compile(r"^([IWEF])\d{4} \d\d:\d\d:\d\d\.\d{6} +\d+ \S+:\d+\] ?(.*)$")


def net(name, text, **options):
    """Register a case; `text` in the short form of `expand`."""
    NETS[name] = (expand(text), options)


def expand(text):
    """Prototxt of lines `Type name bottom,bottom > top,top | further fields`; other lines stay as they are."""
    lines = []
    for line in text.strip().splitlines():
        match = re.match(r"^ *([A-Z]\w*) (\S+) (\S*) ?> ?(\S*)(?: \| (.*))?$", line)
        if not match:
            lines.append(line)
            continue
        kind, name, bottoms, tops, body = match.groups()
        blobs = [f'bottom: "{b}"' for b in bottoms.split(",") if b] + [f'top: "{t}"' for t in tops.split(",") if t]
        lines.append(f'layer {{ name: "{name}" type: "{kind}" {" ".join(blobs)} {body or ""} }}')
    return "\n".join(lines) + "\n"


DATA = "Input data > data,label | input_param { shape { dim: 4 dim: 3 } shape { dim: 4 } }"
DATA4 = "Input data > data,label | input_param { shape { dim: 2 dim: 2 dim: 5 dim: 4 } shape { dim: 2 } }"


def ip(n, more=""):
    return f"inner_product_param {{ num_output: {n} weight_filler {{ type: 'gaussian' std: 1 }} }} {more}"


# -- topology -------------------------------------------------------------------------------------------------------
net(
    "plain",
    f"""name: "plain"
{DATA}
InnerProduct ip data > ip | {ip(3)}
ReLU relu ip > ip
SoftmaxWithLoss loss ip,label > loss""",
    phase=0,
)
net(
    "splits",
    f"""name: "splits"
{DATA}
InnerProduct ip data > ip | {ip(3)}
ReLU relu ip > ip
SoftmaxWithLoss loss ip,label > loss
Accuracy accuracy ip,label > accuracy
Softmax prob ip > prob
EuclideanLoss other data,prob > zz_other | loss_weight: 0.25""",
    phase=1,
)
net(
    "split_with_loss_weight",
    f"""name: "split_with_loss_weight"
{DATA}
InnerProduct ip data > ip | {ip(3)} loss_weight: 0.5
Sigmoid sig ip > sig
Reduction sum sig > sum | loss_weight: 2
Silence quiet label >""",
    phase=0,
)
net(
    "split_of_a_loss",
    f"""name: "split_of_a_loss"
{DATA}
InnerProduct ip data > ip | {ip(3)}
SoftmaxWithLoss loss ip,label > loss,prob | loss_weight: 3 loss_weight: 0
Power half loss > half | power_param {{ scale: 0.5 }}
Reduction sum half > sum | loss_weight: 1""",
    phase=0,
)
net(
    "in_place_chain_and_split",
    f"""name: "chain"
{DATA}
InnerProduct ip data > ip | {ip(3)}
ReLU r1 ip > ip
TanH t1 ip > ip
InnerProduct a ip > a | {ip(2)}
InnerProduct b ip > b | {ip(2)}
Eltwise sum a,b > sum
Reduction loss sum > loss | loss_weight: 1
Silence quiet label >""",
    phase=0,
)
net(
    "outputs_by_name",
    """name: "order"
Input data > z,Z,a,_b,B10,B9 | input_param { shape { dim: 1 } }
Power p z > y
Power q y > A""",
    phase=1,
)
net(
    "automatic_top",
    f"""name: "automatic"
{DATA}
InnerProduct ip data > ip | {ip(3)}
Split split ip > one,two
SoftmaxWithLoss loss one,label >
Silence quiet two >""",
    phase=0,
)
net(
    "legacy_input",
    """name: "legacy"
input: "a" input: "b" input_shape { dim: 2 dim: 3 } input_shape { dim: 3 }
Power p a > c""",
    phase=1,
)

# -- filtering ------------------------------------------------------------------------------------------------------
FILTERED = """name: "filtered"
Input data > data | input_param { shape { dim: 2 dim: 3 } }
Power train data > train | include { phase: TRAIN }
Power test data > test | include { phase: TEST }
Power not_train data > not_train | exclude { phase: TRAIN }
Power low data > low | include { max_level: 1 }
Power high data > high | include { min_level: 2 }
Power between data > between | include { min_level: 1 max_level: 3 }
Power a data > a | include { stage: "a" }
Power a_and_b data > a_and_b | include { stage: "a" stage: "b" }
Power a_or_b data > a_or_b | include { stage: "a" } include { stage: "b" }
Power not_a data > not_a | include { not_stage: "a" }
Power no_a_no_b data > no_a_no_b | exclude { stage: "a" } exclude { stage: "b" }
Power empty_rule data > empty_rule | include { }
Power never data > never | exclude { }
Power test_and_a data > test_and_a | include { phase: TEST stage: "a" }
Dropout phase_of_its_own data > phase_of_its_own | phase: TEST"""
for phase in (0, 1):
    for level in (0, 2, 5):
        for stages in ((), ("a",), ("b", "a")):
            net(f"filter_{phase}_{level}_{''.join(stages)}", FILTERED, phase=phase, level=level, stages=list(stages))
net("state_in_the_file", FILTERED + '\nstate { level: 3 stage: "b" phase: TRAIN }', phase=1, level=2, stages=["a"])

# -- which gradients are computed -----------------------------------------------------------------------------------
net(
    "frozen_bottom_part",
    f"""name: "frozen"
{DATA}
InnerProduct ip1 data > ip1 | {ip(3, "param { lr_mult: 0 } param { lr_mult: 0 }")}
ReLU relu ip1 > ip1
InnerProduct ip2 ip1 > ip2 | {ip(3, "param { lr_mult: 0 }")}
InnerProduct ip3 ip2 > ip3 | {ip(3, "param { } param { lr_mult: 0 }")}
SoftmaxWithLoss loss ip3,label > loss""",
    phase=0,
)
for name, fields in (("declined", "propagate_down: false"), ("forced", "propagate_down: true")):
    net(
        f"propagate_down_{name}_by_a_neuron",
        f"""name: "{name}"
    {DATA}
    InnerProduct ip1 data > ip1 | {ip(3)}
    Sigmoid s1 ip1 > s1 | {fields}
    InnerProduct ip2 s1 > ip2 | {ip(3)}
    SoftmaxWithLoss loss ip2,label > loss""",
        phase=0,
    )
    net(
        f"propagate_down_{name}_at_the_data",
        f"""name: "{name}"
    {DATA}
    Sigmoid s1 data > s1 | {fields}
    Power p s1 > p
    InnerProduct ip2 p > ip2 | {ip(3)}
    SoftmaxWithLoss loss ip2,label > loss""",
        phase=0,
    )
    net(
        f"propagate_down_{name}_by_one_of_two",
        f"""name: "{name}"
    {DATA}
    InnerProduct ip1 data > ip1 | {ip(3)}
    Sigmoid s1 ip1 > s1
    InnerProduct a s1 > a | {ip(3)} {fields}
    InnerProduct b s1 > b | {ip(3)}
    Eltwise sum a,b > sum
    SoftmaxWithLoss loss sum,label > loss""",
        phase=0,
    )
net(
    "propagate_down_declined_by_both",
    f"""name: "both"
{DATA}
InnerProduct ip1 data > ip1 | {ip(3)}
Sigmoid s1 ip1 > s1
InnerProduct a s1 > a | {ip(3)} propagate_down: false
InnerProduct b s1 > b | {ip(3)} propagate_down: false
Eltwise sum a,b > sum
SoftmaxWithLoss loss sum,label > loss""",
    phase=0,
)
net(
    "propagate_down_of_a_loss",
    f"""name: "of_a_loss"
{DATA}
InnerProduct ip1 data > ip1 | {ip(3)}
SoftmaxWithLoss loss ip1,label > loss | propagate_down: true propagate_down: false""",
    phase=0,
)
net(
    "no_loss",
    f"""name: "no_loss"
{DATA}
InnerProduct ip1 data > ip1 | {ip(3)}
Sigmoid s1 ip1 > s1""",
    phase=0,
)
net(
    "side_branch_without_loss",
    f"""name: "side"
{DATA}
InnerProduct ip1 data > ip1 | {ip(3)}
InnerProduct side ip1 > side | {ip(2)}
Sigmoid s1 side > s1
SoftmaxWithLoss loss ip1,label > loss""",
    phase=0,
)
net(
    "silenced_branch",
    f"""name: "silenced"
{DATA}
InnerProduct ip1 data > ip1 | {ip(3)}
InnerProduct side ip1 > side | {ip(2)}
Silence quiet side >
SoftmaxWithLoss loss ip1,label > loss""",
    phase=0,
)
net(
    "any_blob_is_a_loss",
    f"""name: "any"
{DATA}
InnerProduct ip1 data > ip1 | {ip(3)} loss_weight: -0.5
Silence quiet label >""",
    phase=0,
)
net(
    "force_backward",
    f"""name: "force"
force_backward: true
{DATA}
InnerProduct ip1 data > ip1 | {ip(3, "param { lr_mult: 0 } param { lr_mult: 0 }")}
ReLU relu ip1 > ip1
InnerProduct side ip1 > side | {ip(2)}
SoftmaxWithLoss loss ip1,label > loss""",
    phase=0,
)
net(
    "force_backward_euclidean",
    f"""name: "force_euclidean"
force_backward: true
{DATA}
Input other > other | input_param {{ shape {{ dim: 4 dim: 3 }} }}
Silence quiet label >
EuclideanLoss loss data,other > loss""",
    phase=0,
)
net(
    "force_backward_against_propagate_down",
    f"""name: "force_against"
force_backward: true
{DATA}
InnerProduct ip1 data > ip1 | {ip(3)} propagate_down: false
Sigmoid s1 ip1 > s1 | propagate_down: false
SoftmaxWithLoss loss s1,label > loss""",
    phase=0,
)

# -- parameters and sharing -----------------------------------------------------------------------------------------
net(
    "shared",
    f"""name: "shared"
{DATA}
InnerProduct a data > a | {ip(3, 'param { name: "w" } param { name: "b" lr_mult: 2 }')}
InnerProduct b a > b | {ip(3, 'param { name: "w" lr_mult: 0.5 decay_mult: 3 } param { name: "b" }')}
InnerProduct c b > c | {ip(3, 'param { name: "w" lr_mult: 0.5 }')}
SoftmaxWithLoss loss c,label > loss""",
    phase=0,
)
net(
    "shared_permissive",
    """name: "permissive"
Input data > data | input_param { shape { dim: 2 dim: 6 } }
InnerProduct a data > a | inner_product_param { num_output: 4 weight_filler { type: 'gaussian' std: 1 } } \
param { name: "w" }
InnerProduct b data > b | inner_product_param { num_output: 4 transpose: true weight_filler { type: 'gaussian' } } \
param { name: "w" share_mode: PERMISSIVE }
Eltwise sum a,b > sum
Reduction loss sum > loss | loss_weight: 1""",
    phase=0,
)
net(
    "shared_convolutions_permissive",
    """name: "permissive_convolutions"
Input data > data | input_param { shape { dim: 2 dim: 3 dim: 6 dim: 6 } }
Convolution a data > a | convolution_param { num_output: 4 kernel_h: 3 kernel_w: 2 } \
param { name: "w" }
Convolution b data > b | convolution_param { num_output: 4 kernel_h: 2 kernel_w: 3 } \
param { name: "w" share_mode: PERMISSIVE }
Reduction la a > la | loss_weight: 1
Reduction lb b > lb | loss_weight: 2""",
    phase=0,
)

# -- debug_info -----------------------------------------------------------------------------------------------------
net(
    "debug_info",
    f"""name: "debug"
debug_info: true
{DATA}
InnerProduct ip data > ip | {ip(3, 'param { name: "w" } param { lr_mult: 0 }')}
ReLU relu ip > ip
InnerProduct ip2 ip > ip2 | {ip(3, 'param { name: "w" }')}
Softmax prob ip > prob
SoftmaxWithLoss loss ip2,label > loss""",
    phase=0,
)

# -- refusals -------------------------------------------------------------------------------------------------------
for name, text in {
    "unknown_type": "Convolutoin x > y",
    "unknown_bottom": f"{DATA}\nReLU relu dta > y",
    "consumed_later": "Power p later > y\nInput data > later | input_param { shape { dim: 1 } }",
    "two_producers": f"{DATA}\nPower p data > y\nPower q label > y",
    "in_place_at_another_index": f"{DATA}\nSplit s data > other,data",
    "in_place_refused": f"{DATA}\nAbsVal a data > data",
    "too_few_bottoms": f"{DATA}\nInnerProduct ip > y | {ip(3)}",
    "too_many_bottoms": f"{DATA}\nInnerProduct ip data,label > y | {ip(3)}",
    "too_few_tops": f"{DATA}\nInnerProduct ip data > | {ip(3)}",
    "too_many_tops": f"{DATA}\nAccuracy a data,label > y,z,x",
    "too_few_at_least": f"{DATA}\nEltwise e data > y",
    "loss_weights": f"{DATA}\nSoftmaxWithLoss loss data,label > a,b | loss_weight: 1",
    "propagate_down": f"{DATA}\nSoftmaxWithLoss loss data,label > a | propagate_down: true",
    "too_many_params": f"{DATA}\nInnerProduct ip data > y | {ip(3, 'param {} param {} param {}')}",
    "include_and_exclude": f"{DATA}\nPower p data > y | include {{ }} exclude {{ }}",
    "shared_shapes": f"""{DATA}
        InnerProduct a data > a | {ip(3, 'param { name: "w" }')}
        InnerProduct b data > b | {ip(2, 'param { name: "w" }')}""",
    "shared_counts": f"""{DATA}
        InnerProduct a data > a | {ip(3, 'param { name: "w" }')}
        InnerProduct b data > b | {ip(2, 'param { name: "w" share_mode: PERMISSIVE }')}""",
    "shared_lr_mult": f"""{DATA}
        InnerProduct a data > a | {ip(3, 'param { name: "w" lr_mult: 1 }')}
        InnerProduct b data > b | {ip(3, 'param { name: "w" lr_mult: 2 }')}""",
    "shared_decay_mult": f"""{DATA}
        InnerProduct a data > a | {ip(3, 'param { name: "w" decay_mult: 1 }')}
        InnerProduct b data > b | {ip(3, 'param { name: "w" decay_mult: 2 }')}""",
    "axis": f"{DATA}\nSoftmax s data > y | softmax_param {{ axis: 2 }}",
    "input_shapes": "Input data > a,b,c | input_param { shape { dim: 1 } shape { dim: 2 } }",
    "dummy_fillers": "DummyData d > a,b,c | dummy_data_param { shape { dim: 1 } data_filler { } data_filler { } }",
    "dummy_both_shapes": "DummyData d > a | dummy_data_param { shape { } num: 1 channels: 1 height: 1 width: 1 }",
    "memory_data": "MemoryData d > a,b | memory_data_param { batch_size: 2 channels: 1 height: 3 }",
    "hdf5_transform": "HDF5Data d > a | hdf5_data_param { source: 'none' batch_size: 1 } transform_param { scale: 1 }",
    "hdf5_no_list": "HDF5Data d > a | hdf5_data_param { source: 'none' batch_size: 1 }",
    "unknown_field": "Power p > y | power_param { powder: 1 }",
    "given_twice": 'name: "a" name: "b"',
}.items():
    net("refused_" + name, text, phase=0)


def fill(net):
    """Give every input and parameter fixed numbers, labels small integers."""
    state = np.random.RandomState(7)
    for name in net.inputs:
        blob = net.blobs[name]
        values = state.randint(0, 3, blob.data.shape) if name == "label" else state.standard_normal(blob.data.shape)
        blob.data[...] = values
    for blobs in net.params.values():
        for blob in blobs:
            blob.data[...] = state.standard_normal(blob.data.shape)


def observe(name, folder):
    """What a case shows: {"layers", "blobs", ..., "loss", "data", "diff", "params": {name: sums}}; logs to stderr."""
    import caffe

    text, options = NETS[name]
    path = os.path.join(folder, "net.prototxt")
    with open(path, "w") as file:
        file.write(text)
    net = caffe.Net(path, options["phase"], level=options.get("level", 0), stages=options.get("stages"))
    found = {
        "layers": [[net._layer_names[i], layer.type, len(layer.blobs)] for i, layer in enumerate(net.layers)],
        "blobs": [[n, list(b.shape)] for n, b in net.blobs.items()],
        "bottoms": {n: list(v) for n, v in net.bottom_names.items()},
        "tops": {n: list(v) for n, v in net.top_names.items()},
        "inputs": list(net.inputs),
        "outputs": list(net.outputs),
        "loss_weights": {n: float(w) for n, w in net.blob_loss_weights.items()},
    }
    fill(net)
    last = len(net.layers) - 1
    found["loss"] = float(net._forward(0, last))
    net._backward(last, 0)
    net._forward(0, last)
    net._backward(last, 0)  # parameter gradients accumulate, all others are overwritten
    found["data"] = {n: fingerprint(b.data) for n, b in net.blobs.items()}
    found["diff"] = {n: fingerprint(b.diff) for n, b in net.blobs.items()}
    found["params"] = {n: [fingerprint(b.diff) for b in blobs] for n, blobs in net.params.items()}
    return found


def fingerprint(array):
    """Three sums that tell arrays apart: of the numbers, of their squares, of the numbers weighted by position."""
    values = np.asarray(array, np.float64).ravel()
    return [float(values.sum()), float((values**2).sum()), float((values * np.arange(1, len(values) + 1)).sum())]


def construction_log(messages):
    """Lines "<severity> <message>" of log_messages() without the net's text and the factory's own lines."""
    return [
        f"{s} {text}" for s, text in messages if not text.startswith(("Initializing net", "Creating layer ", *UPGRADE))
    ]


def log_messages(text):
    """[(severity letter, message)] of glog text; lines without a prefix continue the message before."""
    found = []
    for line in text.splitlines():
        match = LOG_LINE.match(line)
        if match:
            found.append([match.group(1), match.group(2)])
        elif found:
            found[-1][1] += "\n" + line
    return found
