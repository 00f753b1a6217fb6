"""The include and exclude rules in the engine, in lrp and in the drawing: all combinations of rules and states."""

import itertools
import json

import numpy as np
import pytest

import caffe
import lrp
from caffe_proto import caffe_pb2, read_net

PHASES = (None, caffe_pb2.TRAIN, caffe_pb2.TEST)
LEVELS = (None, -1, 0, 1)
STAGES = ((), ("a",), ("a", "b"))
RULES = list(itertools.product(PHASES, LEVELS, LEVELS, STAGES, STAGES))
STATES = list(itertools.product((caffe_pb2.TRAIN, caffe_pb2.TEST), (-1, 0, 1), ((), ("a",), ("b",), ("b", "a"))))


def is_met(rule, state):
    """A rule read aloud: sets and intervals, nothing of ours."""
    (phase, least, most, stages, barred), (now, level, given) = rule, state
    within = float("-inf" if least is None else least) <= level <= float("inf" if most is None else most)
    return phase in (None, now) and within and set(stages) <= set(given) and not set(barred) & set(given)


def wanted(state):
    """The names of the layers that a net in `state` keeps, of those that `definition` writes."""
    names = ["data"]
    for number, rule in enumerate(RULES):
        names.append(f"in{number}" if is_met(rule, state) else f"out{number}")
    names += [f"either{n}" for n in range(len(RULES) - 1) if is_met(RULES[n], state) or is_met(RULES[n + 1], state)]
    return sorted(names)


def definition(own=""):
    """A net with a layer for each rule as an include, as an exclude, and for each two rules side by side."""

    def text(rule):
        phase, least, most, stages, barred = rule
        fields = [f"phase: {caffe_pb2.Phase.Name(phase)}"] if phase is not None else []
        fields += [f"min_level: {least}"] if least is not None else []
        fields += [f"max_level: {most}"] if most is not None else []
        fields += [f'stage: "{stage}"' for stage in stages] + [f'not_stage: "{stage}"' for stage in barred]
        return "{ " + " ".join(fields) + " }"

    def layer(name, rules):
        return f'layer {{ name: "{name}" type: "ReLU" bottom: "data" top: "data" {rules} }}'

    lines = [own, 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 2 } } }']
    for number, rule in enumerate(RULES):
        lines.append(layer(f"in{number}", f"include {text(rule)}"))
        lines.append(layer(f"out{number}", f"exclude {text(rule)}"))
    for number, (one, other) in enumerate(itertools.pairwise(RULES)):
        lines.append(layer(f"either{number}", f"include {text(one)} include {text(other)}"))
    return "\n".join(lines)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("filter") / "net.prototxt"
    path.write_text(definition())
    return path


@pytest.mark.parametrize("state", STATES, ids=str)
def test_the_engine_keeps_what_the_rules_say(state, model):
    phase, level, stages = state
    net = caffe.Net(str(model), phase, level=level, stages=list(stages))
    assert sorted(net._layer_names) == wanted(state)


@pytest.mark.parametrize("stages", STAGES, ids=str)
def test_lrp_keeps_what_the_engine_keeps(stages, tmp_path):
    own = "state { " + " ".join(f'stage: "{stage}"' for stage in stages) + " }"
    (tmp_path / "net.prototxt").write_text(definition(own))
    network = lrp.Network(tmp_path / "net.prototxt", {})
    explained = network.relevance(np.ones((1, 2), np.float32), layers=True).layers
    assert sorted(explained) == [name for name in wanted((caffe_pb2.TEST, 0, stages)) if name != "data"]


@pytest.mark.parametrize("phase", [caffe_pb2.TRAIN, caffe_pb2.TEST])
def test_drawings_show_what_the_engine_keeps(phase, model):
    graph = caffe.draw.get_pydot_graph(read_net(model), "LR", phase=phase)
    boxes = [node.get_name().strip('"').split("\\n")[0] for node in graph.get_nodes()]
    drawn = sorted(box for box in boxes if box.startswith(("in", "out", "either")))
    assert drawn == [name for name in wanted((phase, 0, ())) if name != "data"]


@pytest.mark.bvlc
def test_the_original_keeps_the_same(model, bvlc, tmp_path):
    script = tmp_path / "kept.py"
    script.write_text(
        "import json, sys, caffe\n"
        "for phase, level, stages in json.loads(sys.argv[2]):\n"
        "    net = caffe.Net(sys.argv[1], phase, level=level, stages=stages)\n"
        "    print('KEPT ' + json.dumps(sorted(net._layer_names)))\n"
    )
    done = bvlc("python3", script, model, json.dumps(STATES))
    kept = [json.loads(line[5:]) for line in done.stdout.splitlines() if line.startswith("KEPT ")]
    assert kept == [wanted(state) for state in STATES]
