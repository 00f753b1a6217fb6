"""Makes upgraded.json: legacy nets and solvers, and what the original BVLC Caffe 1.0 makes of them.

Run it in the original's Python:

    tests/bvlc.sh python3 tests/golden/upgrade/recipe.py tests/golden/upgrade/upgraded.json

Every case is a prototxt text. Its upgraded form comes from Caffe's own tools upgrade_net_proto_text and
upgrade_solver_proto_text; a case that Caffe aborts on has the text of its fatal message instead. The snapshot names
of a solver come from a snapshot that Caffe writes.
"""

import json
import os
import re
import subprocess
import sys
import tempfile

V0_TYPES = [
    "accuracy",
    "bnll",
    "concat",
    "conv",
    "data",
    "dropout",
    "euclidean_loss",
    "flatten",
    "hdf5_data",
    "hdf5_output",
    "im2col",
    "images",
    "infogain_loss",
    "innerproduct",
    "lrn",
    "multinomial_logistic_loss",
    "pool",
    "relu",
    "sigmoid",
    "softmax",
    "softmax_loss",
    "split",
    "tanh",
    "window_data",
]
V0_FIELDS = """num_output: 3|biasterm: false|weight_filler { type: "gaussian" std: 0.5 }|bias_filler { value: 0.25 }|
pad: 2|kernelsize: 5|group: 2|stride: 3|pool: AVE|dropout_ratio: 0.25|local_size: 7|alpha: 2|beta: 3|source: "s"|
scale: 4|meanfile: "m"|batchsize: 6|cropsize: 8|mirror: true|k: 9|rand_skip: 11|det_fg_threshold: 0.125|
det_bg_threshold: 0.25|
det_fg_fraction: 0.75|det_context_pad: 12|det_crop_mode: "square"|new_num: 13|new_channels: 14|new_height: 15|
new_width: 16|shuffle_images: true|concat_dim: 2|hdf5_output_param { file_name: "f" }|blobs_lr: 1 blobs_lr: 2|
weight_decay: 3|blobs { num: 1 channels: 1 height: 1 width: 2 data: 5 data: 6 }""".replace("\n", "").split("|")
V1_TYPES = [
    "NONE",
    "ABSVAL",
    "ACCURACY",
    "ARGMAX",
    "BNLL",
    "CONCAT",
    "CONTRASTIVE_LOSS",
    "CONVOLUTION",
    "DATA",
    "DECONVOLUTION",
    "DROPOUT",
    "DUMMY_DATA",
    "ELTWISE",
    "EUCLIDEAN_LOSS",
    "EXP",
    "FLATTEN",
    "HDF5_DATA",
    "HDF5_OUTPUT",
    "HINGE_LOSS",
    "IM2COL",
    "IMAGE_DATA",
    "INFOGAIN_LOSS",
    "INNER_PRODUCT",
    "LRN",
    "MEMORY_DATA",
    "MULTINOMIAL_LOGISTIC_LOSS",
    "MVN",
    "POOLING",
    "POWER",
    "RELU",
    "SIGMOID",
    "SIGMOID_CROSS_ENTROPY_LOSS",
    "SILENCE",
    "SLICE",
    "SOFTMAX",
    "SOFTMAX_LOSS",
    "SPLIT",
    "TANH",
    "THRESHOLD",
    "WINDOW_DATA",
]
V1_FIELDS = """bottom: "b" bottom: "c"|top: "t"|blobs { num: 2 data: 3 data: 4 }|
blobs { shape { dim: 1 } data: 3 diff: 1 }|
blobs_lr: 1 blobs_lr: 0|weight_decay: 1 weight_decay: 0 weight_decay: 2|param: "w"|blob_share_mode: PERMISSIVE|
blobs_lr: 2 weight_decay: 3 param: "a" param: "b" param: "c" blob_share_mode: STRICT|include { phase: TEST }|
exclude { stage: "x" } exclude {}|loss_weight: 1 loss_weight: 0.5|concat_param { concat_dim: 0 }|
convolution_param { num_output: 3 kernel_size: 2 pad: 1 weight_filler { type: "xavier" } }|
data_param { source: "s" batch_size: 2 backend: LMDB scale: 0.5 mirror: true crop_size: 3 mean_file: "m" }|
image_data_param { source: "s" scale: 0.5 mirror: false crop_size: 0 mean_file: "m" new_height: 4 }|
window_data_param { source: "s" scale: 0.5 mirror: true crop_size: 3 mean_file: "m" fg_fraction: 0.5 }|data_param {}|
data_param { scale: 7 } transform_param { scale: 8 mean_value: 1 mean_value: 2 }|dropout_param { dropout_ratio: 0.25 }|
hdf5_data_param { source: "s" batch_size: 3 }|hdf5_output_param { file_name: "f" }|infogain_loss_param { source: "i" }|
inner_product_param { num_output: 2 bias_term: false }|lrn_param { local_size: 3 norm_region: WITHIN_CHANNEL }|
pooling_param { pool: AVE kernel_size: 2 stride: 2 }|power_param { power: 2 scale: 3 shift: 4 }|
memory_data_param { batch_size: 1 channels: 2 height: 3 width: 4 }|argmax_param { top_k: 3 }|
eltwise_param { operation: MAX coeff: 1 coeff: -1 }|threshold_param { threshold: 0.5 }|
dummy_data_param { num: 1 channels: 2 height: 3 width: 4 }|accuracy_param { top_k: 5 }|hinge_loss_param { norm: L2 }|
relu_param { negative_slope: 0.5 }|slice_param { slice_dim: 2 slice_point: 1 }|mvn_param { across_channels: true }|
tanh_param { engine: CAFFE }|sigmoid_param { engine: CUDNN }|softmax_param { axis: 2 }|
contrastive_loss_param { margin: 2 legacy_version: true }|exp_param { base: 2 }|
loss_param { ignore_label: 1 normalize: false }""".replace("\n", "").split("|")

NETS = {
    "v0_lenet_with_padding": """name: "v0" force_backward: true debug_info: true state { phase: TRAIN }
        input: "data" input_dim: 1 input_dim: 1 input_dim: 12 input_dim: 12
        layers { layer { name: "pad1" type: "padding" pad: 2 } bottom: "data" top: "pad1" }
        layers { layer { name: "conv1" type: "conv" num_output: 4 kernelsize: 5 blobs_lr: 1 blobs_lr: 2
            weight_decay: 1 weight_decay: 0 } bottom: "pad1" top: "conv1" include { phase: TRAIN } loss_weight: 2 }
        layers { layer { name: "relu1" type: "relu" } bottom: "conv1" top: "conv1" }
        layers { layer { name: "pad2" type: "padding" pad: 1 } bottom: "conv1" top: "conv1" }
        layers { layer { name: "pool1" type: "pool" kernelsize: 3 stride: 2 pad: 7 } bottom: "conv1" top: "p" }
        layers { layer { name: "pad3" type: "padding" } bottom: "p" top: "q" }
        layers { layer { name: "conv2" type: "conv" num_output: 4 kernelsize: 1 pad: 9 } bottom: "q" top: "r" }
        layers { layer { name: "ip" type: "innerproduct" num_output: 3 biasterm: false } bottom: "p" top: "ip" }
        layers { layer { name: "prob" type: "softmax" } bottom: "ip" top: "prob" }""",
    "v0_without_name_or_type": """layers { layer { } top: "a" }
        layers { layer { type: "relu" } bottom: "a" top: "a" }""",
    "v0_unknown_type": """layers { layer { name: "x" type: "convolution" } }""",
    "v0_unknown_blob": """layers { layer { name: "x" type: "relu" } bottom: "a" top: "b" }""",
    "v0_padding_into_relu": """input: "d" layers { layer { name: "p" type: "padding" pad: 1 } bottom: "d" top: "p" }
        layers { layer { name: "r" type: "relu" } bottom: "p" top: "r" }""",
    "v0_padding_into_two_bottoms": """input: "d" layers { layer { name: "p" type: "padding" } bottom: "d" top: "p" }
        layers { layer { name: "c" type: "conv" } bottom: "p" bottom: "d" top: "r" }""",
    "v0_padding_of_two_bottoms": """input: "d" input: "e"
        layers { layer { name: "p" type: "padding" } bottom: "d" bottom: "e" top: "p" }
        layers { layer { name: "c" type: "conv" } bottom: "p" top: "r" }""",
    "v0_padding_into_two_tops": """input: "d"
        layers { layer { name: "p" type: "padding" } bottom: "d" top: "p" top: "q" }
        layers { layer { name: "c" type: "conv" } bottom: "p" top: "r" }""",
    "v1_and_current": """layers { type: RELU } layer { type: "ReLU" }""",
    "v1_lenet": """name: "LeNet" state { stage: "s" } debug_info: true input: "data"
        input_shape { dim: 2 dim: 1 dim: 9 dim: 9 }
        layers { name: "conv1" type: CONVOLUTION bottom: "data" top: "conv1" blobs_lr: 1 blobs_lr: 2
            convolution_param { num_output: 4 kernel_size: 3 } }
        layers { name: "drop" type: DROPOUT bottom: "conv1" top: "conv1" dropout_param { dropout_ratio: 0.7 } }
        layers { name: "ip" type: INNER_PRODUCT bottom: "conv1" top: "ip" inner_product_param { num_output: 5 } }
        layers { name: "loss" type: SOFTMAX_LOSS bottom: "ip" bottom: "data" exclude { phase: TEST } }""",
    "current_stays": """name: "x"
        layer { name: "d" type: "Data" top: "d" data_param { scale: 3 mirror: true } } input_dim: 3
        layer { name: "r" type: "ReLU" bottom: "d" top: "d" param { lr_mult: 1 } param {} param {} }""",
    "input_shape": """input: "a" input: "b" input_shape { dim: 2 dim: 3 } input_shape { } layer { name: "x" }
        layer { name: "y" }""",
    "input_shape_before_dim": """input: "a" input_shape { dim: 2 } input_shape { dim: 3 } input_dim: 1 input_dim: 1""",
    "input_dim": """input: "a" input: "b" input_dim: 1 input_dim: 2 input_dim: 3 input_dim: 4 input_dim: 5 input_dim: 6
        input_dim: 7 input_dim: 8 input_dim: 9 layer { name: "x" type: "Concat" bottom: "a" bottom: "b" top: "c" }""",
    "input_without_shape": """input: "a" layer { name: "x" bottom: "a" type: "ReLU" top: "y" }""",
    "batch_norm": """layer { type: "BatchNorm" param { name: "k" lr_mult: 2 } param {}
            param { decay_mult: 3 share_mode: PERMISSIVE } }
        layer { type: "BatchNorm" param { lr_mult: 2 } param {} } layer { type: "BatchNorm" }
        layer { type: "BatchNorm" param {} param {} param {} param { lr_mult: 5 } }""",
}
NETS.update(
    (f"v0_type_{kind}", "\n".join(f'layers {{ layer {{ name: "n" type: "{kind}" {field} }} }}' for field in V0_FIELDS))
    for kind in V0_TYPES
)
NETS["v1_every_type"] = "\n".join(f'layers {{ name: "{kind.lower()}" type: {kind} }}' for kind in V1_TYPES)
NETS.update(
    (f"v1_fields_of_{kind.lower()}", "\n".join(f"layers {{ type: {kind} {field} }}" for field in V1_FIELDS))
    for kind in ("DATA", "IMAGE_DATA", "WINDOW_DATA", "CONVOLUTION")
)
SOLVERS = {
    kind.lower(): f'net: "n" solver_type: {kind} base_lr: 0.5'
    for kind in ("SGD", "NESTEROV", "ADAGRAD", "RMSPROP", "ADADELTA", "ADAM")
}
SOLVERS["both"] = 'net: "n" solver_type: ADAM type: "Adam"'
SOLVERS["current"] = 'net: "n" type: "Adam" solver_mode: CPU'

SNAPSHOT_SOLVER = """net_param {
    layer { name: "d" type: "DummyData" top: "a" dummy_data_param { num: 1 channels: 1 height: 1
        width: 1 } }
    layer { name: "i" type: "InnerProduct" bottom: "a" top: "i" inner_product_param { num_output: 1 } } }
    base_lr: 1 lr_policy: "fixed" max_iter: 1 """
SNAPSHOT_PREFIXES = {
    "none": "",
    "empty": 'snapshot_prefix: ""',
    "name": 'snapshot_prefix: "mine"',
    "folder": 'snapshot_prefix: "folder"',
    "folder_slash": 'snapshot_prefix: "folder/"',
}


def upgrade(tool, text):
    """{'input': text, 'output': upgraded text} or, where Caffe aborts, {'input': text, 'error': its fatal message}."""
    with open("in.prototxt", "w") as file:
        file.write(text)
    if os.path.exists("out.prototxt"):
        os.unlink("out.prototxt")
    done = subprocess.run([tool, "in.prototxt", "out.prototxt"], capture_output=True)
    if os.path.exists("out.prototxt"):
        with open("out.prototxt") as file:
            return {"input": text, "output": " ".join(file.read().split())}
    fatal = re.search(r"^F\d+ \S+ +\d+ \S+\] (.*)$", done.stderr.decode(), re.MULTILINE).group(1)
    return {"input": text, "error": re.sub(r"Check failed: .*?(\([^()]*\) )? *(?=[A-Z])", "", fatal)}


def snapshot_files(prefix):
    """The snapshot that Caffe writes for a solver file conf.d/my.solver.prototxt with this line in it."""
    import caffe

    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for name in ("conf.d", "folder"):
            os.mkdir(name)
        with open("conf.d/my.solver.prototxt", "w") as file:
            file.write(SNAPSHOT_SOLVER + prefix)
        caffe.SGDSolver("conf.d/my.solver.prototxt").snapshot()
        made = [os.path.relpath(os.path.join(root, name)) for root, _, names in os.walk(".") for name in names]
        os.chdir("/")
    return {"input": prefix, "made": [name for name in made if name.endswith(".solverstate")]}


def main():
    output = os.path.abspath(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        result = {
            "net": {name: upgrade("upgrade_net_proto_text", text) for name, text in NETS.items()},
            "solver": {name: upgrade("upgrade_solver_proto_text", text) for name, text in SOLVERS.items()},
        }
        os.chdir("/")
    result["snapshot"] = {name: snapshot_files(prefix) for name, prefix in SNAPSHOT_PREFIXES.items()}
    with open(output, "w") as file:
        json.dump(result, file, indent=1, sort_keys=True)
        file.write("\n")


if __name__ == "__main__":
    main()
